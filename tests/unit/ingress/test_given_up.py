"""What the broker gave up is answered with the broker's own reason."""

from typing import Any

import pytest

from contracts.failure import FailureCode
from contracts.result import Status
from contracts.text2image import Text2ImageResult
from node.errors import Disposition
from node.ingress.given_up import MAX_REASON_CHARS, death_reason, given_up
from node.job import Envelope, Outcome
from node.ports import IncomingMessage, Properties

ENVELOPE = Envelope(job_id="j1", reply_to="answers", correlation_id="c1", attempt=2)


def dead(**headers: Any) -> IncomingMessage:
    return IncomingMessage(
        "megaservice.dead-letter", "text2image", b"", Properties(headers=headers)
    )


def outcome(reason: str) -> Outcome:
    message = dead(**{"x-death": [{"reason": reason, "queue": "text2image", "count": 1}]})
    return given_up(message, ENVELOPE, Text2ImageResult)


@pytest.mark.parametrize(
    ("reason", "status", "code", "retryable"),
    [
        ("expired", Status.EXPIRED, FailureCode.DEADLINE_EXCEEDED, True),
        ("delivery_limit", Status.FAILED, FailureCode.ATTEMPTS_EXHAUSTED, False),
        ("maxlen", Status.FAILED, FailureCode.OVERLOADED, True),
        ("rejected", Status.FAILED, FailureCode.INTERNAL, True),
        ("unknown", Status.FAILED, FailureCode.INTERNAL, True),
    ],
)
def test_the_outcome_follows_the_reason(
    reason: str, status: Status, code: FailureCode, retryable: bool
) -> None:
    ended = outcome(reason)
    assert isinstance(ended.result, Text2ImageResult)
    assert (ended.result.job_id, ended.status) == ("j1", status)
    assert ended.error is not None
    assert (ended.error.code, ended.error.retryable) == (code, retryable)
    assert (ended.error.instance, ended.error.attempt) == ("j1", 2)


def test_an_expired_request_owes_its_result_only() -> None:
    assert outcome("expired").disposition is Disposition.ACK


def test_the_reason_is_said() -> None:
    error = outcome("rejected").error
    assert error is not None
    assert error.detail == "the broker gave the request up (rejected)"


def test_the_latest_death_counts() -> None:
    deaths = [{"reason": "delivery_limit"}, {"reason": "expired"}]
    assert death_reason(dead(**{"x-death": deaths})) == "delivery_limit"


@pytest.mark.parametrize("deaths", [None, [], {}, "expired", [None], ["expired"], [{}], [[]], 5])
def test_a_death_that_says_nothing_is_unknown(deaths: object) -> None:
    assert death_reason(dead(**{"x-death": deaths})) == "unknown"
    assert death_reason(dead()) == "unknown"


@pytest.mark.parametrize("reason", ["x" * 100_000, None, 5, ["expired"], b"expired"])
def test_a_forged_reason_is_shown_within_bounds(reason: object) -> None:
    shown = death_reason(dead(**{"x-death": [{"reason": reason}]}))
    assert len(shown) <= MAX_REASON_CHARS
    assert given_up(dead(**{"x-death": [{"reason": reason}]}), ENVELOPE, Text2ImageResult).error


@pytest.mark.parametrize("reason", ["delivery_limit", "maxlen", "rejected", "anything"])
def test_what_was_given_up_is_never_tried_again(reason: str) -> None:
    message = IncomingMessage(
        "", "text2image.unanswered", b"", Properties(headers={"x-death": [{"reason": reason}]})
    )
    outcome = given_up(message, Envelope("a-job", None, None), Text2ImageResult)
    assert outcome.disposition is Disposition.DEAD_LETTER
