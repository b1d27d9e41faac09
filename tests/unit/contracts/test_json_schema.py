"""Every type on the wire describes itself, with examples that are valid."""

import importlib
import pkgutil
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import contracts
from contracts import examples
from contracts.json_schema import DIALECT, component_schemas, json_schemas
from contracts.known import KNOWN_MESSAGES
from contracts.message import Message
from contracts.service import ServiceContract
from contracts.text2image import Text2ImageRequest

SCHEMAS = json_schemas(KNOWN_MESSAGES)


def _message_types() -> list[type[Message]]:
    """Find every message type in contracts, wherever it is defined."""
    for module in pkgutil.iter_modules(contracts.__path__):
        if not module.ispkg:
            importlib.import_module(f"contracts.{module.name}")
    found: list[type[Message]] = []
    waiting: list[type[Message]] = [Message]
    while waiting:
        children = [each for each in waiting.pop().__subclasses__() if each not in found]
        found += children
        waiting += children
    return [
        each
        for each in found
        if each.__module__.startswith("contracts.") and not each.__name__.startswith("_")
    ]


MESSAGE_TYPES = _message_types()


@pytest.mark.parametrize("model", MESSAGE_TYPES)
def test_every_type_has_a_description_and_a_valid_example(model: type[Message]) -> None:
    schema = model.model_json_schema()
    assert schema["description"]
    assert schema["examples"]
    for each in schema["examples"]:
        message = model.model_validate(each)
        assert model.model_validate_json(message.to_json()) == message


@pytest.mark.parametrize("model", MESSAGE_TYPES)
def test_every_field_has_a_description(model: type[Message]) -> None:
    schema = model.model_json_schema()
    for name, field in schema["properties"].items():
        # pydantic leaves out a description that says the same as that of the type.
        part = schema["$defs"][field["$ref"].split("/")[-1]] if "$ref" in field else {}
        assert {**part, **field}.get("description"), name


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_valid_and_its_examples_are_valid_against_it(name: str) -> None:
    schema = SCHEMAS[name]
    assert schema["$schema"] == DIALECT
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for each in schema["examples"]:
        validator.validate(each)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_examples_of_fields_are_valid(name: str) -> None:
    schema = SCHEMAS[name]
    for properties in _objects(schema):
        for field in properties.values():
            validator = Draft202012Validator({**field, "$defs": schema.get("$defs", {})})
            for each in field.get("examples", []):
                validator.validate(each)


def _objects(schema: dict[str, Any]) -> list[dict[str, Any]]:
    parts = [schema, *schema.get("$defs", {}).values()]
    return [part["properties"] for part in parts if "properties" in part]


CLOSED = [model for model in KNOWN_MESSAGES if model.model_config.get("extra") == "forbid"]


def test_only_requests_that_are_passed_on_take_unknown_fields() -> None:
    assert {model.__name__ for model in KNOWN_MESSAGES} - {model.__name__ for model in CLOSED} == {
        "BridgeRequest"
    }


@pytest.mark.parametrize("model", CLOSED)
def test_an_unknown_field_is_not_valid(model: type[Message]) -> None:
    schema = SCHEMAS[model.__name__]
    document = {**schema["examples"][0], "unknown": 1}
    assert not Draft202012Validator(schema).is_valid(document)


@pytest.mark.parametrize(
    ("name", "field"),
    [("AcceptedEvent", "event"), ("CancelRequest", "command"), ("Announcement", "type")],
)
def test_a_sender_must_name_the_kind(name: str, field: str) -> None:
    assert field in SCHEMAS[name]["required"]


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2, "steps": 5, "cfg_scale": 3.5, "size": "512x512"},
        {"lora_weight_name_or_path": "pixel-art", "id": "0f8fad5b"},
        {"n": None, "steps": None, "cfg_scale": None, "size": None},
        {"seed": -1, "negative_prompt": ["blurry"]},
        {"negative_prompt": ""},
        {"seed": [1, 2], "num_images_per_prompt": 2},
    ],
)
def test_the_schema_of_a_request_accepts_what_nodes_accept(fields: dict[str, Any]) -> None:
    document = {"prompt": examples.PROMPT, **fields}
    Text2ImageRequest.model_validate(document)
    Draft202012Validator(SCHEMAS["Text2ImageRequest"]).validate(document)


@pytest.mark.parametrize(
    "fields", [{"n": 0}, {"n": 65}, {"steps": 0}, {"cfg_scale": 51}, {"size": "big"}, {"seed": -2}]
)
def test_the_schema_of_a_request_has_the_bounds_of_aliases(fields: dict[str, Any]) -> None:
    document = {"prompt": examples.PROMPT, **fields}
    assert not Draft202012Validator(SCHEMAS["Text2ImageRequest"]).is_valid(document)


def test_components_hold_every_message_and_resolve_each_other() -> None:
    components = component_schemas(ServiceContract())
    assert {model.__name__ for model in ServiceContract().messages} <= set(components)
    prefix = "#/components/schemas/"
    references = set(_references(components))
    assert references
    assert all(each.removeprefix(prefix) in components for each in references)


def _references(part: Any) -> list[str]:
    if isinstance(part, list):
        return [each for item in part for each in _references(item)]
    if not isinstance(part, dict):
        return []
    own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
    return own + [each for value in part.values() for each in _references(value)]
