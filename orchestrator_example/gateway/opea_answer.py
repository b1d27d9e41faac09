"""What OPEA's clients get: pictures, faults of a request, health. Pure."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from contracts import examples
from contracts.failure import Problem
from contracts.megaservice import MegaServiceResult, StageReport
from contracts.message import Message
from contracts.result import JobResult

WARNING_HEADER: Final = "X-Warning"
MAX_WARNINGS: Final = 10
MAX_WARNING_CHARS: Final = 200
"""What all of them take stays within the headers that proxies let through."""
MAX_FAULTS: Final = 20
MAX_INPUT_CHARS: Final = 200
MAX_INPUT_ITEMS: Final = 20
MAX_INPUT_DEPTH: Final = 3
LEFT_OUT: Final = "…"


class OpeaImages(Message):
    """The pictures of a request, as OPEA's `SDOutputs`."""

    id: str = Field(examples=[examples.JOB_ID])
    """Id of the job."""
    images: list[str] = Field(examples=[["iVBORw0KGgo="]])
    """The image files in base64."""


class OpeaChain(OpeaImages):
    """What a mega-service made, and how."""

    stages: dict[str, StageReport] = Field(default_factory=dict)
    """What became of each stage, by its name."""
    warnings: list[str] = Field(default_factory=list)
    """What was changed or could not be honoured, in words."""


class Fault(Message):
    """One thing that is wrong with a request, as FastAPI tells it."""

    type: str = Field(examples=["multiple_of"])
    """Kind of fault."""
    loc: list[str | int] = Field(examples=[["body", "width"]])
    """Where it is."""
    msg: str = Field(examples=["Input should be a multiple of 8"])
    """What is wrong."""
    input: Any = Field(default=None, examples=[513])
    """What was given, cut short where it is long."""


class InvalidBody(Message):
    """Everything that is wrong with a request."""

    detail: list[Fault]
    """One for each fault."""


class HealthCheck(BaseModel):
    """What the gateway is, in OPEA's words."""

    model_config = ConfigDict(frozen=True, serialize_by_alias=True, validate_by_name=True)

    title: str = Field(alias="Service Title")
    version: str = Field(alias="Version")
    description: str = Field(alias="Service Description")


class Alive(Message):
    """The process answers."""

    status: str = "ok"


def warning_headers(warnings: Sequence[str]) -> list[str]:
    """Write warnings as header values: visible ASCII, few and short."""
    shown = [_visible(warning) for warning in warnings[:MAX_WARNINGS]]
    if len(warnings) > MAX_WARNINGS:
        shown.append(f"{len(warnings) - MAX_WARNINGS} more warnings")
    return shown


def invalid_body(errors: Iterable[Mapping[str, Any]]) -> InvalidBody:
    """Tell of errors that pydantic found; whatever the input, it can be written as JSON."""
    return InvalidBody(detail=[_fault(error) for error in list(errors)[:MAX_FAULTS]])


def refused_body(problem: Problem, request: Message) -> InvalidBody:
    """Tell of a request that its service refused: such texts begin with the field at fault."""
    field, colon, rest = problem.detail.partition(": ")
    names = type(request).model_fields
    loc, msg = (["body", field], rest) if colon and field in names else (["body"], problem.detail)
    given = request.model_dump(mode="json", include={field}).get(field)
    return InvalidBody(detail=[Fault(type=problem.code, loc=loc, msg=msg, input=_shown(given))])


def failure_details(result: JobResult) -> dict[str, Any]:
    """Say what was done before a job failed, beside its problem: the stages of a chain."""
    if not isinstance(result, MegaServiceResult):
        return {}
    return result.model_dump(mode="json", include={"stages"})


def _fault(error: Mapping[str, Any]) -> Fault:
    msg = str(error["msg"])
    if error["type"] == "json_invalid":
        msg = f"{msg}: {error['ctx']['error']}"
    loc = [part if isinstance(part, int) else str(_shown(part)) for part in error["loc"]]
    return Fault(type=error["type"], loc=loc, msg=_text(msg), input=_shown(error.get("input")))


def _shown(value: Any, depth: int = 0) -> Any:
    """Cut a value short, and leave out of it what JSON cannot hold."""
    match value:
        case None | bool():
            return value
        case str():
            return _text(value)
        case bytes():
            return _text(value.decode(errors="replace"))
        case int():
            return value if abs(value) < 2**63 else _text(str(value))
        case float():
            return value if math.isfinite(value) else str(value)
        case dict() | list() if depth == MAX_INPUT_DEPTH:
            return LEFT_OUT
        case dict():
            items = list(value.items())[:MAX_INPUT_ITEMS]
            return {_text(str(name)): _shown(each, depth + 1) for name, each in items}
        case list():
            return [_shown(each, depth + 1) for each in value[:MAX_INPUT_ITEMS]]
        case _:
            return _text(str(value))


def _text(text: str) -> str:
    # Half a surrogate pair is a string to JSON's readers and cannot be written.
    text = text.encode(errors="replace").decode()
    return text if len(text) <= MAX_INPUT_CHARS else text[:MAX_INPUT_CHARS] + LEFT_OUT


def _visible(text: str) -> str:
    written = json.dumps(text)[1:-1].replace("\x7f", "\\u007f").replace('\\"', '"')
    return written if len(written) <= MAX_WARNING_CHARS else written[:MAX_WARNING_CHARS] + "..."
