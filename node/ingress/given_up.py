"""Requests that the broker dead-lettered by itself, for which a result is still owed."""

from dataclasses import replace
from typing import Any, Final

from contracts.result import JobResult, Status
from node.errors import AttemptsExhausted, Disposition, InternalError, JobError, Overloaded
from node.job import Envelope, Outcome
from node.ports import IncomingMessage

MAX_REASON_CHARS: Final = 40


def given_up(
    message: IncomingMessage, envelope: Envelope, result_model: type[JobResult]
) -> Outcome:
    """Say how a request ended that no node answered, from the broker's `x-death` header."""
    reason = death_reason(message)
    if reason == "expired":
        return Outcome.stopped(result_model, envelope, Status.EXPIRED)
    failed = Outcome.failed(result_model, envelope, _error(reason))
    # It lies in the dead-letter queue already: it is answered, and never tried again from here.
    return replace(failed, disposition=Disposition.DEAD_LETTER)


def death_reason(message: IncomingMessage) -> str:
    """Read why the broker dead-lettered a message last; `unknown` where it does not say."""
    deaths: Any = message.properties.headers.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return str(deaths[0].get("reason", "unknown"))[:MAX_REASON_CHARS]
    return "unknown"


def _error(reason: str) -> JobError:
    if reason == "delivery_limit":
        return AttemptsExhausted(
            "every node that took this request went away before it was done (delivery limit); "
            "it waits in the dead-letter queue for an operator"
        )
    if reason == "maxlen":
        return Overloaded("the queue was full; send the request again later")
    return InternalError(f"the broker gave the request up ({reason})")
