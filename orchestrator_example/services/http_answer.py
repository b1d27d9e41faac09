"""What an HTTP answer means: the output of a job, or why there is none. Pure."""

import base64
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import pydantic_core
from pydantic import JsonValue

from node.errors import InvalidRequest, JobError, Overloaded
from orchestrator_example.services.http_errors import ServiceFailed
from orchestrator_example.services.http_stream import join

MAX_SHOWN_CHARS: Final = 300
OUR_OWN_FAULT: Final = frozenset({401, 403, 407})
TRY_AGAIN: Final = frozenset({408, 425, 429, 503})


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the HTTP service; `location` is where a redirection points."""

    status: int
    media_type: str
    charset: str | None
    body: bytes
    location: str | None = None

    @property
    def text(self) -> str:
        """The body as text, whatever bytes it holds."""
        try:
            return self.body.decode(self.charset or "utf-8", errors="replace")
        except (LookupError, ValueError):
            # The service names no encoding of text that there is.
            return self.body.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Read:
    """The output of a job, and what its caller should know about it."""

    output: JsonValue
    warnings: tuple[str, ...] = ()


def read(answer: Answer) -> Read:
    """Turn an answer into a job's output. Raises JobError for one that is none."""
    if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        raise refusal(answer)
    if not answer.body:
        return Read(None)
    kind = answer.media_type
    if kind == "application/json" or kind.endswith("+json"):
        return Read(_json(answer))
    if kind == "text/event-stream":
        joined = join(answer.text)
        cut = "the event stream ended without [DONE]: its text may be incomplete"
        return Read(joined.output, () if joined.complete else (cut,))
    if kind.startswith("text/"):
        return Read({"text": answer.text})
    return Read({"b64_json": base64.b64encode(answer.body).decode(), "media_type": kind})


def refusal(answer: Answer) -> JobError:
    """Say what an answer other than success means for the job."""
    status = answer.status
    said = f"the service answered {status}{_phrase(status)}: {own_words(answer)}"
    if status in TRY_AGAIN:
        return Overloaded(said)
    if status in OUR_OWN_FAULT:
        return ServiceFailed(f"{said}; the operator gives credentials in BRIDGE_HEADERS")
    if 300 <= status < 400:
        return ServiceFailed(
            f"the service redirects ({status}) to {answer.location or 'nowhere'}, which is not "
            "followed; the operator sets BRIDGE_URL to the address that answers"
        )
    if 400 <= status < 500:
        return InvalidRequest(said)
    return ServiceFailed(said)


def own_words(answer: Answer) -> str:
    """Find the service's own explanation, in the shapes of FastAPI, OpenAI and plain text."""
    try:
        document = pydantic_core.from_json(answer.body)
    except ValueError:
        document = answer.text
    words = " ".join(_explanation(document).split()) or "(no text)"
    return words if len(words) <= MAX_SHOWN_CHARS else words[: MAX_SHOWN_CHARS - 1] + "…"


def _explanation(document: Any) -> str:
    if isinstance(document, dict):
        for name in ("detail", "error", "message", "msg"):
            if document.get(name):
                return _explanation(document[name])
    if isinstance(document, list):
        return "; ".join(_field_error(each) for each in document[:5])
    return document if isinstance(document, str) else pydantic_core.to_json(document).decode()


def _field_error(item: Any) -> str:
    """Write FastAPI's error of one field, without the caller's input that it repeats."""
    if isinstance(item, dict) and isinstance(item.get("loc"), list) and "msg" in item:
        return f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
    return _explanation(item)


def _json(answer: Answer) -> JsonValue:
    try:
        value: JsonValue = pydantic_core.from_json(answer.body, allow_inf_nan=False)
    except ValueError as error:
        raise ServiceFailed(f"the service calls its answer JSON, but: {error}") from error
    return value


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""
