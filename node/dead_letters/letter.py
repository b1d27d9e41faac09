"""What a dead letter says: which job, why it was given up, and when. Pure."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import pydantic_core
from pydantic import TypeAdapter, ValidationError

from contracts.message import (
    HEADER_ATTEMPT,
    HEADER_DEAD_CODE,
    HEADER_DEAD_DETAIL,
    HEADER_DEAD_TIME,
    HEADER_REPLAY,
    JobId,
    parse_expirytime,
)
from contracts.topology import DELIVERY_LIMIT
from node.ingress.decoding import MAX_COUNT, MAX_TIME
from node.ingress.given_up import death_reason
from node.ports import IncomingMessage

MAX_READ_BYTES: Final = 1_048_576
"""A larger body is no request that a node accepts; its model is not looked for."""
MAX_CODE_CHARS: Final = 40

_JOB_ID: Final[TypeAdapter[str]] = TypeAdapter(JobId)
_BROKER_REASONS: Final = {
    "delivery_limit": "every node that took it went away before it was done; it may crash them",
    "expired": "its deadline passed before a node took it",
    "maxlen": "the queue was full",
    "rejected": "a consumer refused it",
}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter without its body.

    `job_id` is made from the body where the request brought no valid one. `died_at` is in Unix
    seconds. Two letters with the same `job_id` and `sha256` (of the body) are one request.
    """

    job_id: str
    code: str
    detail: str
    attempts: int
    replays: int
    died_at: float | None
    size_bytes: int
    model: str | None
    sha256: str

    @property
    def key(self) -> tuple[str, str, float | None]:
        """What tells this letter from every other one."""
        return self.job_id, self.sha256, self.died_at


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters are meant; `died_before` is in Unix seconds."""

    job_ids: frozenset[str] | None = None
    code: str | None = None
    died_before: float | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """Say whether a letter is meant; one of unknown age is not old."""
        return (
            (self.job_ids is None or letter.job_id in self.job_ids)
            and (self.code is None or letter.code == self.code)
            and (
                self.died_before is None
                or (letter.died_at is not None and letter.died_at < self.died_before)
            )
        )


def read_letter(message: IncomingMessage) -> DeadLetter:
    """Read a dead letter, whatever it holds. Never raises."""
    headers = message.properties.headers
    document = read_document(message.body)
    death = last_death(message)
    # Nodes strip the broker's headers: where both speak, the request brought ours from outside.
    by_node = {} if death else headers
    reason = death_reason(message)
    sha256 = hashlib.sha256(message.body).hexdigest()
    attempt = _count(headers.get(HEADER_ATTEMPT), least=1)
    return DeadLetter(
        job_id=_job_id(message, document) or f"unnamed-{sha256[:12]}",
        code=str(by_node.get(HEADER_DEAD_CODE) or reason)[:MAX_CODE_CHARS],
        detail=str(by_node.get(HEADER_DEAD_DETAIL) or _BROKER_REASONS.get(reason, "")),
        # Those at the broker's limit were all made under the same number.
        attempts=attempt + DELIVERY_LIMIT if reason == "delivery_limit" else attempt,
        replays=_count(headers.get(HEADER_REPLAY), least=0),
        died_at=_died_at(by_node.get(HEADER_DEAD_TIME) or death.get("time")),
        size_bytes=len(message.body),
        model=stated_model(document),
        sha256=sha256,
    )


def oldest_first(letter: DeadLetter) -> tuple[float, str, str]:
    """Sort letters by age; those of unknown age come first, and ties have an order as well."""
    return letter.died_at or 0.0, letter.job_id, letter.sha256


def read_document(body: bytes) -> Any:
    """Read a body as JSON; None where it is none, or too large to be a request."""
    if len(body) > MAX_READ_BYTES:
        return None
    try:
        return pydantic_core.from_json(body)
    except ValueError:
        return None


def stated_model(document: Any) -> str | None:
    """Find the model that a request names."""
    model = document.get("model") if isinstance(document, dict) else None
    return model if isinstance(model, str) and model else None


def last_death(message: IncomingMessage) -> dict[str, Any]:
    """Read what the broker noted when it dead-lettered a message last; empty when it never did."""
    deaths: Any = message.properties.headers.get("x-death")
    return deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}


def _job_id(message: IncomingMessage, document: Any) -> str | None:
    given = message.properties.message_id
    if given is None and isinstance(document, dict):
        given = document.get("id")
    try:
        return _JOB_ID.validate_python(given)
    except ValidationError:
        return None


def _died_at(stated: Any) -> float | None:
    try:
        time = float(stated) if type(stated) is int else parse_expirytime(stated)
    except (ValueError, OverflowError, OSError):
        return None
    return time if 0 <= time <= MAX_TIME else None


def _count(value: Any, least: int) -> int:
    return value if type(value) is int and least <= value <= MAX_COUNT else least
