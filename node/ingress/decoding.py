"""Read a request message: where its answer goes, and what it asks for."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import uuid4

import pydantic_core
from pydantic import TypeAdapter, ValidationError

from contracts.message import (
    CLOUDEVENTS_PREFIXES,
    HEADER_ATTEMPT,
    HEADER_EXPIRYTIME,
    HEADER_REPLAY,
    HEADER_TRACEPARENT,
    HEADER_TRACESTATE,
    JSON_CONTENT_TYPE,
    JobId,
    Message,
    cloudevents_attribute,
    parse_expirytime,
)
from node.errors import InvalidRequest, JobError, UnsupportedContentType
from node.job import Envelope, Job
from node.ports import UNREADABLE_HEADERS, IncomingMessage

MAX_DETAIL_CHARS: Final = 600
MAX_COUNT: Final = 1000
MAX_ERRORS: Final = 20
MAX_SHOWN_CHARS: Final = 60
MAX_TIME: Final = 253_402_300_799.0
"""The last second of the year 9999: a deadline beyond it cannot be written down."""
PRIVATE_FIELDS: Final = ("prompt", "negative_prompt", "text", "query")
"""Details are logged; what callers write is not."""

_JOB_ID: Final[TypeAdapter[str]] = TypeAdapter(JobId)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message with the moment it came: monotonic and Unix seconds."""

    message: IncomingMessage
    received_at: float
    received_time: float


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A message that is no valid request, and why; its envelope is where the answer goes."""

    envelope: Envelope
    error: JobError


def decode(
    arrival: Arrival, request_model: type[Message], max_request_bytes: int
) -> Job | Undecodable:
    """Turn a message into a job, whatever bytes it holds. Pure, and never raises."""
    envelope = read_envelope(arrival.message)
    try:
        document = _read_object(arrival.message, max_request_bytes)
        envelope = _with_job_id(envelope, arrival.message, document)
        request = request_model.model_validate(document)
        return Job(
            envelope=envelope,
            request=request,
            fingerprint=hashlib.sha256(request.to_json()).hexdigest(),
            received_at=arrival.received_at,
            priority=arrival.message.properties.priority,
            deadline=read_deadline(arrival.message, arrival.received_time),
            replay=_count(arrival.message.properties.headers.get(HEADER_REPLAY), least=0),
        )
    except JobError as error:
        return Undecodable(envelope, error)
    except ValidationError as error:
        return Undecodable(envelope, InvalidRequest(explain(error)))


def read_envelope(message: IncomingMessage) -> Envelope:
    """Read where answers go; a job id is made up where the message brings no valid one."""
    properties = message.properties
    try:
        job_id = _JOB_ID.validate_python(properties.message_id)
    except ValidationError:
        job_id = uuid4().hex
    return Envelope(
        job_id=job_id,
        reply_to=properties.reply_to or None,
        correlation_id=properties.correlation_id,
        headers=_passed_through(properties.headers),
        attempt=_count(properties.headers.get(HEADER_ATTEMPT), least=1),
    )


def read_deadline(message: IncomingMessage, received_time: float) -> float | None:
    """Find the earliest deadline of a message, in Unix seconds.

    `expiration` counts from the publisher's timestamp, or from now where there is none.
    Raises InvalidRequest for a header that is no time.
    """
    properties = message.properties
    deadlines = []
    if properties.expiration_seconds is not None:
        start = properties.timestamp if properties.timestamp is not None else received_time
        # Timestamps are whole seconds: one cut down must not expire a request early.
        deadlines.append(max(start + 1.0, 0.0) + properties.expiration_seconds)
    stated = cloudevents_attribute(properties.headers, "expirytime")
    if stated is not None:
        try:
            deadlines.append(parse_expirytime(stated))
        except (ValueError, OverflowError, OSError) as error:
            raise InvalidRequest(f"header {HEADER_EXPIRYTIME}: {str(error)[:200]}") from error
    return min(max(min(deadlines), 0.0), MAX_TIME) if deadlines else None


def _read_object(message: IncomingMessage, max_request_bytes: int) -> dict[str, Any]:
    if (unreadable := message.properties.headers.get(UNREADABLE_HEADERS)) is not None:
        raise InvalidRequest(f"the message headers cannot be read: {str(unreadable)[:200]}")
    content_type = (message.properties.content_type or JSON_CONTENT_TYPE).split(";")[0].strip()
    if content_type.lower() != JSON_CONTENT_TYPE:
        raise UnsupportedContentType(
            f"content_type is {content_type[:80]!r}; publish {JSON_CONTENT_TYPE}"
        )
    size = len(message.body)
    if size > max_request_bytes:
        raise InvalidRequest(
            f"the body has {size} bytes, this node reads at most {max_request_bytes}"
        )
    try:
        document = pydantic_core.from_json(message.body, allow_inf_nan=True)
    except ValueError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidRequest(
            f"the body is a JSON {_json_kind(document)}, not an object such as "
            '{"prompt": "An astronaut riding a green horse"}'
        )
    return document


def _with_job_id(
    envelope: Envelope, message: IncomingMessage, document: dict[str, Any]
) -> Envelope:
    given = message.properties.message_id or document.get("id")
    if given is None or given == envelope.job_id:
        return envelope
    try:
        return replace(envelope, job_id=_JOB_ID.validate_python(given))
    except ValidationError:
        raise InvalidRequest(
            f"the job id {str(given)[:80]!r} is not 1..128 letters, digits or ._:~@/+=- "
            f"beginning with a letter or digit; this answer has the id {envelope.job_id}"
        ) from None


def _passed_through(headers: Any) -> dict[str, Any]:
    """Keep trace context and CloudEvents attributes."""
    return {name: value for name, value in headers.items() if _is_passed_through(name)}


def _is_passed_through(name: str) -> bool:
    # The deadline is not: it would be read again as that of whoever gets the answer.
    trace = name in (HEADER_TRACEPARENT, HEADER_TRACESTATE)
    return trace or (name.startswith(CLOUDEVENTS_PREFIXES) and not name.endswith("expirytime"))


def _count(value: Any, least: int) -> int:
    # A header from outside: anything but a sensible count is none.
    return value if type(value) is int and least <= value <= MAX_COUNT else least


def explain(error: ValidationError) -> str:
    """Say what is wrong with a request in one line, field by field."""
    found = [
        f"{'.'.join(str(part)[:MAX_SHOWN_CHARS] for part in item['loc']) or 'request'}: "
        f"{_reason(item)}"
        for item in error.errors(include_url=False)[:MAX_ERRORS]
    ]
    text = "; ".join(dict.fromkeys(found))
    return text if len(text) <= MAX_DETAIL_CHARS else text[: MAX_DETAIL_CHARS - 1] + "…"


def _reason(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "no such field, and none is silently ignored"
    reason = str(item["msg"]).removeprefix("Value error, ")
    location = item["loc"]
    if item["type"] == "missing" or not location or location[0] in PRIVATE_FIELDS:
        return reason
    return f"{reason} (got {_shown(item['input'])})"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(value[:MAX_SHOWN_CHARS])
    if isinstance(value, bool | float | None):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if abs(value) < 2**64 else "a number beyond 64 bits"
    return f"an {_json_kind(value)}"


def _json_kind(document: Any) -> str:
    kinds: dict[type, str] = {
        list: "array",
        dict: "object",
        str: "string",
        bool: "boolean",
        type(None): "null",
    }
    return kinds.get(type(document), "number")
