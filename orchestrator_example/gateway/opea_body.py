"""What OPEA's clients send, as requests of ours. Pure.

What we do not know is left out, and a warning tells of it: OPEA's orchestrator hands every service
all that the services before it answered. Numbers may be spelled as OPEA's own models read them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

from pydantic import PlainValidator, TypeAdapter, ValidationError

from contracts.message import Message
from contracts.text2image import Text2ImageRequest
from orchestrator_example.gateway.schemas import schema_of

PROMPT_NAMES: Final = ("text", "query", "messages")
"""What OPEA's mega-services and text services call what we call `prompt`."""
MAX_SHOWN_CHARS: Final = 60
MAX_WARNINGS: Final = 16
_DOCUMENT_ID: Final = re.compile(r"[0-9a-f]{32}")

_NUMBERS: Final[Mapping[str, TypeAdapter[Any]]] = {
    **dict.fromkeys(
        ("num_inference_steps", "num_images_per_prompt", "seed", "height", "width"),
        TypeAdapter(int),
    ),
    **dict.fromkeys(("guidance_scale", "strength"), TypeAdapter(float)),
}


@dataclass(frozen=True, slots=True)
class Tolerated:
    """A request, and what of its body was left out, in words."""

    request: Message
    warnings: tuple[str, ...] = ()


def body_of(model: type[Message]) -> PlainValidator:
    """Make the validator of a body; to the OpenAPI document the body is `model`."""
    described: Any = model if schema_of(model) else dict[str, Any]
    return PlainValidator(partial(tolerated, model), json_schema_input_type=described)


def tolerated(model: type[Message], body: Any) -> Tolerated:
    """Read a body. Raises ValidationError for what remains of it."""
    if not isinstance(body, dict):
        return Tolerated(model.model_validate(body))
    given = _in_our_words(body, known_fields(model))
    fields = {name: value for name, value in given.items() if _is_known(model, name)}
    left_out = {name: value for name, value in given.items() if name not in fields}
    request = model.model_validate(fields)
    warnings = list(_warnings(model, left_out))
    if len(warnings) > MAX_WARNINGS:
        warnings[MAX_WARNINGS:] = [f"{len(warnings) - MAX_WARNINGS} more fields are ignored"]
    return Tolerated(request, tuple(warnings))


@cache
def known_fields(model: type[Message]) -> frozenset[str]:
    """List what a request may be made of, other spellings included."""
    return frozenset(schema_of(model).get("properties", ())) | frozenset(model.model_fields)


def _is_known(model: type[Message], name: str) -> bool:
    # OPEA's documents have an id each; it is not that of a job, which may not come twice.
    return name != "id" and (
        name in known_fields(model) or model.model_config.get("extra") == "allow"
    )


def _in_our_words(body: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    given = {name: _as_number(name, value) for name, value in body.items()}
    if "prompt" in known and given.get("prompt") is None:
        given |= _prompt_from(given, known)
    if isinstance(given.get("prompt"), list) and len(given["prompt"]) == 1:
        given["prompt"] = given["prompt"][0]
    return given


def _prompt_from(given: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Find the prompt under another name; that name then says nothing more."""
    for name in PROMPT_NAMES:
        if name not in known and (value := given.get(name)) is not None:
            return {"prompt": _last_words(value) if name == "messages" else value, name: None}
    return {}


def _last_words(messages: Any) -> Any:
    """Take what the user said last in a chat; anything else is returned as it is."""
    if not isinstance(messages, list):
        return messages
    said = [each for each in messages if isinstance(each, dict) and each.get("role") == "user"]
    content = said[-1].get("content") if said else messages
    if not isinstance(content, list):
        return content
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str)) or messages


def _as_number(name: str, value: Any) -> Any:
    if name not in _NUMBERS or not isinstance(value, str | float):
        return value
    try:
        return _NUMBERS[name].validate_python(value)
    except ValidationError:
        return value  # the request itself says what is wrong with it


def _warnings(model: type[Message], left_out: dict[str, Any]) -> Iterator[str]:
    for name, value in left_out.items():
        shown = name[:MAX_SHOWN_CHARS]
        if name == "id":
            yield from _id_warnings(value)
        elif value is None:
            continue
        elif "parameters" in known_fields(model) and name in known_fields(Text2ImageRequest):
            yield (
                f"{shown}: ignored, no such field of the whole chain; fields of one stage go "
                f'into parameters, e.g. {{"parameters": {{"text2image": {{"{shown}": ...}}}}}}'
            )
        else:
            yield f"{shown}: ignored, no such field"


def _id_warnings(value: Any) -> Iterator[str]:
    if not (value is None or (isinstance(value, str) and _DOCUMENT_ID.fullmatch(value))):
        yield "id: ignored, each job gets one; to choose it send Idempotency-Key to /v1/jobs"
