"""The documents of the wire, as files: AsyncAPI in YAML and one JSON Schema for each message.

`python -m node.documents contracts` writes them into the source tree.
"""

import hashlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic.errors import PydanticInvalidForJsonSchema

from contracts.asyncapi import asyncapi_document
from contracts.json_schema import json_schemas
from contracts.known import KNOWN_MESSAGES
from contracts.service import ServiceContract

ASYNCAPI_FILE = "asyncapi.yaml"
SCHEMAS_FOLDER = "schemas"


class _Dumper(yaml.SafeDumper):
    """Repeats what occurs twice instead of pointing at it, which readers of AsyncAPI expect."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render_asyncapi(contract: ServiceContract | None = None) -> str:
    """Write the AsyncAPI document of a service as YAML."""
    return yaml.dump(
        asyncapi_document(contract), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )


def render_schemas() -> dict[str, str]:
    """Write the JSON Schema of each message, by the name of the message."""
    return {
        name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in json_schemas(KNOWN_MESSAGES).items()
    }


def write_documents(folder: Path, contract: ServiceContract | None = None) -> None:
    """Write a service's document, and all schemas, into a folder. Raises OSError."""
    schemas = folder / SCHEMAS_FOLDER
    schemas.mkdir(parents=True, exist_ok=True)
    (folder / ASYNCAPI_FILE).write_text(render_asyncapi(contract), encoding="utf-8")
    for name, text in render_schemas().items():
        (schemas / f"{name}.json").write_text(text, encoding="utf-8")


@cache
def asyncapi_sha256(contract: ServiceContract) -> str | None:
    """Hash the document as canonical JSON, so that two nodes can be compared.

    None for a service of one's own whose types have no JSON Schema.
    """
    try:
        document = asyncapi_document(contract)
    except PydanticInvalidForJsonSchema:
        return None
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


if __name__ == "__main__":
    write_documents(Path(sys.argv[1]))
