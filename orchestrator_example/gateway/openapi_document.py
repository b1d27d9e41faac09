"""The OpenAPI document: what FastAPI finds by itself, and what it cannot know.

That is: who needs an API key, the results of the services that are behind this very gateway, and
problem details, whose media type no model can say.
"""

import json
from collections.abc import Collection, Iterable
from typing import Any, Final

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from contracts.message import Message
from contracts.result import JobResult
from contracts.service import ServiceContract
from orchestrator_example.gateway.guarding import is_open
from orchestrator_example.gateway.jobs_answer import JobView
from orchestrator_example.gateway.problems import HttpProblem
from orchestrator_example.gateway.schemas import schema_of

REF: Final = "#/components/schemas/{model}"
KEY_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key of this gateway."},
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same key, where something else fills in `Authorization`.",
    },
}


def add_document(
    app: FastAPI,
    services: Iterable[ServiceContract],
    *,
    needs_key: bool,
    open_paths: Collection[str],
) -> None:
    """Complete the OpenAPI document of an app."""
    as_fastapi_sees_it = app.openapi
    results = list(dict.fromkeys(each.result for each in services))

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = as_fastapi_sees_it()
            _add_schemas(found["components"]["schemas"], results)
            _leave_out_unused(found)
            if needs_key:
                _ask_for_keys(found, open_paths)
        return app.openapi_schema or {}

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _add_schemas(schemas: dict[str, Any], results: list[type[JobResult]]) -> None:
    """Add problems, and say what the result of a job is: that of one of the services."""
    described = [each for each in results if schema_of(each, "serialization")]
    shown: list[type[Message]] = [HttpProblem, *described]
    names, definitions = models_json_schema(
        [(each, "serialization") for each in shown], ref_template=REF
    )
    for name, schema in definitions["$defs"].items():
        schemas.setdefault(name, schema)
    choices = [names[model, "serialization"] for model in described]
    if len(described) < len(results):
        choices.append({"type": "object"})
    result = schemas[JobView.__name__]["properties"]["result"]
    result["anyOf"] = [*choices, {"type": "null"}]


def _leave_out_unused(document: dict[str, Any]) -> None:
    """Drop the schemas that nothing refers to: types of ours that no caller sees."""
    schemas = document["components"]["schemas"]
    written = json.dumps(document)
    for name in list(schemas):
        if f'"{REF.format(model=name)}"' not in written:
            del schemas[name]


def _ask_for_keys(document: dict[str, Any], open_paths: Collection[str]) -> None:
    document["components"]["securitySchemes"] = KEY_SCHEMES
    document["security"] = [{name: []} for name in KEY_SCHEMES]
    for path, operations in document["paths"].items():
        if is_open(path, open_paths):
            for operation in operations.values():
                operation["security"] = []
