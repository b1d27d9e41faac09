"""The checked-in documents are those that the types say."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import contracts
from contracts.asyncapi import asyncapi_document
from contracts.json_schema import json_schemas
from contracts.known import KNOWN_MESSAGES
from contracts.message import Message
from contracts.result import JobResult
from contracts.service import ServiceContract
from node.documents import asyncapi_sha256, render_asyncapi, render_schemas, write_documents

CHECKED_IN = Path(contracts.__path__[0])
REMEDY = "stale: run `python -m node.documents contracts`"


def test_the_asyncapi_document_is_not_stale() -> None:
    checked_in = (CHECKED_IN / "asyncapi.yaml").read_text(encoding="utf-8")
    assert checked_in == render_asyncapi(), REMEDY


@pytest.mark.parametrize("name", json_schemas(KNOWN_MESSAGES))
def test_the_json_schema_is_not_stale(name: str) -> None:
    checked_in = (CHECKED_IN / "schemas" / f"{name}.json").read_text(encoding="utf-8")
    assert checked_in == render_schemas()[name], REMEDY


def test_no_schema_is_left_over() -> None:
    files = {path.stem for path in (CHECKED_IN / "schemas").iterdir()}
    assert files == set(render_schemas())


def test_yaml_says_what_the_document_says() -> None:
    assert yaml.safe_load(render_asyncapi()) == asyncapi_document()
    assert not re.search(r"[&*]id\d{3}", render_asyncapi())


def test_documents_are_written_into_any_folder(tmp_path: Path) -> None:
    write_documents(tmp_path / "new")
    assert (tmp_path / "new" / "asyncapi.yaml").read_text(encoding="utf-8") == render_asyncapi()
    for name, schema in json_schemas(KNOWN_MESSAGES).items():
        text = (tmp_path / "new" / "schemas" / f"{name}.json").read_text(encoding="utf-8")
        assert json.loads(text) == schema


def test_the_hash_is_that_of_the_canonical_json() -> None:
    canonical = json.dumps(asyncapi_document(), sort_keys=True, separators=(",", ":"))
    assert asyncapi_sha256(ServiceContract()) == hashlib.sha256(canonical.encode()).hexdigest()


class Odd(Message):
    call: Callable[[], None]


def test_a_service_whose_types_have_no_schema_has_no_hash() -> None:
    contract = ServiceContract("odd", Odd, JobResult, "Odd")
    assert asyncapi_sha256(contract) is None
