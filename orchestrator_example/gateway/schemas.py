"""JSON Schemas of what services take and give; one of one's own may have types without any."""

from functools import cache
from typing import Any

from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import JsonSchemaMode

from contracts.message import Message


@cache
def schema_of(message: type[Message], mode: JsonSchemaMode = "validation") -> dict[str, Any]:
    """Describe a message; an empty schema, which anything fits, where that cannot be done."""
    try:
        return message.model_json_schema(mode=mode)
    except PydanticInvalidForJsonSchema:
        return {}
