"""JSON Schemas (2020-12) of everything that travels on the wire."""

from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from contracts.headers import AnswerHeaders, DeadLetterHeaders, RequestHeaders, RequestProperties
from contracts.message import Message
from contracts.service import ServiceContract

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_ID_BASE: Final = "urn:text2image-node:schema:"

_HEADERS: Final[tuple[type[BaseModel], ...]] = (
    RequestProperties,
    RequestHeaders,
    AnswerHeaders,
    DeadLetterHeaders,
)


class WireSchema(GenerateJsonSchema):
    """Requires the fields that name the kind of a message, which only our own types default."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Say whether a sender must write the field."""
        schema = field["schema"]
        inner = schema["schema"] if schema["type"] == "default" else schema
        names_kind = inner["type"] == "literal" and len(inner["expected"]) == 1
        return names_kind or super().field_is_required(field, total)

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Leave out titles that repeat the name of the field."""
        return False


def json_schemas(messages: Iterable[type[Message]]) -> dict[str, dict[str, Any]]:
    """Write the schema of each message, complete by itself, under the message's name."""
    return {
        message.__name__: {
            "$schema": DIALECT,
            "$id": SCHEMA_ID_BASE + message.__name__,
            **message.model_json_schema(schema_generator=WireSchema),
        }
        for message in messages
    }


def component_schemas(service: ServiceContract) -> dict[str, dict[str, Any]]:
    """Write the schemas of messages, their parts and headers as components of one document."""
    _, document = models_json_schema(
        [(model, "validation") for model in (*service.messages, *_HEADERS)],
        ref_template="#/components/schemas/{model}",
        schema_generator=WireSchema,
    )
    schemas: dict[str, dict[str, Any]] = document["$defs"]
    return schemas
