"""A request of OpenAI's image API to one of ours. Pure.

What would give another thing than was asked for is refused; a mere hint that no model here can
follow is taken, with a warning. docs/openai.md says which is which.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from contracts.message import Message
from contracts.text2image import EXAMPLE_PROMPT, OutputFormat, Text2ImageRequest
from node.ingress.decoding import explain
from orchestrator_example.gateway.openai_errors import (
    InvalidParameter,
    UnknownParameter,
    as_openai_calls_it,
)

M = TypeVar("M", bound=Message)

MAX_PREVIEWS: Final = 10
"""Bound of the contract for a whole job."""

_SAID_OTHERWISE: Final = {
    "id": "give the job's id in the header Idempotency-Key",
    "previews": "say how many with partial_images and stream",
    "response": "say it with response_format",
}


class ImagesRequest(Message):
    """What OpenAI's clients send. Any other field is one of `Text2ImageRequest`, such as `seed`."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"examples": [{"prompt": EXAMPLE_PROMPT, "n": 1, "size": "auto"}]},
    )

    prompt: str = Field(examples=[EXAMPLE_PROMPT])
    """What the images show."""
    model: str | None = None
    """One of `GET /v1/models`; none: the node's default."""
    n: int | None = Field(default=None, strict=True, ge=1)
    """How many images; none: one."""
    size: str | None = Field(default=None, examples=["auto", "1024x1024"])
    """`WIDTHxHEIGHT` in pixels; none or `auto`: the model's native size."""
    response_format: Literal["b64_json", "url"] | None = None
    """`url` gives links that expire; none: `b64_json`."""
    output_format: str | None = Field(default=None, examples=["png", "jpeg", "webp"])
    """File format; none: `png`."""
    output_compression: int | None = Field(default=None, strict=True, ge=0, le=100)
    """Quality of jpeg and webp, as OpenAI's: 100 keeps most."""
    stream: bool | None = Field(default=None, strict=True)
    """Whether the images come as server-sent events."""
    partial_images: int | None = Field(default=None, strict=True, ge=0, le=3)
    """How many unfinished versions of each image a stream shows."""
    background: str | None = Field(default=None, examples=["auto", "opaque"])
    """Images are opaque; `transparent` is refused."""
    quality: str | None = Field(default=None, examples=["auto"])
    """A hint without effect; `num_inference_steps` has one."""
    style: str | None = None
    """A hint without effect: the prompt says the style."""
    complexity: str | None = None
    """A hint without effect."""
    moderation: str | None = Field(default=None, examples=["auto"])
    """A hint without effect: this door checks no prompts."""
    user: str | None = None
    """Goes with the job in its metadata."""
    safety_identifier: str | None = None
    """Goes with the job in its metadata."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request in our own words, how its images are to come back, and what was not heeded."""

    request: Text2ImageRequest
    stream: bool
    links: bool
    warnings: tuple[str, ...]


def read(body: Any) -> Wanted:
    """Decide what to run. Raises InvalidParameter."""
    if not isinstance(body, dict):
        raise InvalidParameter(
            'the body is no JSON object such as {"prompt": "An astronaut riding a green horse"}'
        )
    asked = _valid(ImagesRequest, body)
    stream, links = asked.stream or False, asked.response_format == "url"
    if asked.background not in (None, "auto", "opaque"):
        raise InvalidParameter("background: images are opaque here", "background")
    if stream and links:
        detail = "response_format: a stream brings the images themselves, as b64_json"
        raise InvalidParameter(detail, "response_format")
    request = _request(asked)
    if stream:
        previews = (asked.partial_images or 0) * request.num_images_per_prompt
        request = request.model_copy(update={"previews": min(previews, MAX_PREVIEWS)})
    return Wanted(request, stream, links, tuple(_warnings(asked, stream)))


def in_our_models(wanted: Wanted, other_names: Collection[str]) -> Wanted:
    """Take the node's default model where one of its other names is given, and say so."""
    model = wanted.request.model
    if model is None or model not in other_names:
        return wanted
    request = wanted.request.model_copy(update={"model": None})
    warning = f"model {model!r} stands here for the node's default model"
    return replace(wanted, request=request, warnings=(*wanted.warnings, warning))


def _request(asked: ImagesRequest) -> Text2ImageRequest:
    document = {name: value for name, value in _document(asked).items() if value is not None}
    return _valid(Text2ImageRequest, document)


def _valid(model: type[M], body: dict[str, Any]) -> M:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise _invalid(error) from error


def _document(asked: ImagesRequest) -> dict[str, Any]:
    own = {name: value for name, value in (asked.model_extra or {}).items() if value is not None}
    for name in own.keys() & _SAID_OTHERWISE.keys():
        raise UnknownParameter(f"{name}: {_SAID_OTHERWISE[name]}", name)
    if asked.output_compression is not None and "output_quality" in own:
        detail = "output_compression and output_quality say the same thing: give one of them"
        raise InvalidParameter(detail, "output_compression")
    return {
        "prompt": asked.prompt,
        "model": asked.model or None,
        "n": asked.n,
        "size": None if asked.size == "auto" else asked.size,
        "output_format": asked.output_format,
        "output_quality": _quality(asked),
        **own,
        "metadata": _metadata(asked, own.get("metadata")),
    }


def _quality(asked: ImagesRequest) -> int | None:
    """Translate the compression level; at 100 nothing is lost, which is what png does."""
    level = asked.output_compression
    if level is None or (asked.output_format in (None, OutputFormat.PNG) and level == 100):
        return None
    if asked.output_format in (None, OutputFormat.PNG):
        detail = "output_compression: png is lossless; set output_format to jpeg or webp"
        raise InvalidParameter(detail, "output_compression")
    return max(level, 1)


def _metadata(asked: ImagesRequest, given: Any) -> Any:
    """Put who the image is for beside the caller's own metadata, whose faults others find."""
    who = {"user": asked.user, "safety_identifier": asked.safety_identifier}
    named = {name: value for name, value in who.items() if value}
    return {**named, **given} if isinstance(given, dict) else given or named


def _warnings(asked: ImagesRequest, stream: bool) -> list[str]:
    checks = {
        f"quality {asked.quality!r} has no effect: num_inference_steps has": (
            asked.quality not in (None, "auto")
        ),
        f"style {asked.style!r} has no effect: say it in the prompt": asked.style is not None,
        f"complexity {asked.complexity!r} has no effect": asked.complexity is not None,
        f"moderation {asked.moderation!r} has no effect: prompts are not checked here": (
            asked.moderation not in (None, "auto")
        ),
        "partial_images has no effect without stream": bool(asked.partial_images) and not stream,
    }
    return [text[:200] for text, applies in checks.items() if applies]


def _invalid(error: ValidationError) -> InvalidParameter:
    """Say what is wrong, and with which of OpenAI's parameters."""
    first = error.errors(include_url=False, include_input=False)[0]
    param = as_openai_calls_it(str(first["loc"][0])) if first["loc"] else None
    kind = UnknownParameter if first["type"] == "extra_forbidden" else InvalidParameter
    return kind(explain(error), param)
