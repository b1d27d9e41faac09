"""How often a job is tried, and what it ends in."""

import pytest

from contracts.result import Status
from contracts.text2image import Text2ImageRequest, Text2ImageResult
from contracts.topology import RETRY_DELAYS_SECONDS
from node.errors import Disposition, InternalError, InvalidRequest
from node.job import Envelope, Job, Outcome
from node.scheduling.attempts import retry_delay, without_further_attempt

NOW = 1_700_000_000.0


def job(attempt: int, deadline: float | None = None) -> Job:
    envelope = Envelope("a-job", None, None, attempt=attempt)
    return Job(envelope, Text2ImageRequest(prompt="x"), "print", 0.0, deadline=deadline)


def test_each_attempt_waits_longer_and_there_is_a_last_one() -> None:
    delays = [retry_delay(attempt, None, NOW) for attempt in range(1, 6)]
    assert delays == [*RETRY_DELAYS_SECONDS, None, None]


@pytest.mark.parametrize(("left", "expected"), [(6.0, 5), (5.0, None), (-1.0, None)])
def test_no_attempt_is_made_past_the_deadline(left: float, expected: int | None) -> None:
    assert retry_delay(1, NOW + left, NOW) == expected


def test_a_failure_that_may_pass_is_tried_again() -> None:
    outcome = Outcome.failed(Text2ImageResult, job(1).envelope, InternalError("a hiccup"))
    assert without_further_attempt(job(1), outcome, NOW) is outcome
    assert outcome.disposition is Disposition.RETRY


def test_after_the_last_attempt_the_failure_is_final_and_tells_the_last_error() -> None:
    last = len(RETRY_DELAYS_SECONDS) + 1
    outcome = Outcome.failed(Text2ImageResult, job(last).envelope, InternalError("a hiccup"))
    final = without_further_attempt(job(last), outcome, NOW)
    assert final.disposition is Disposition.DEAD_LETTER
    assert final.error is not None
    assert (final.error.code, final.error.attempt) == ("attempts_exhausted", last)
    assert "a hiccup" in final.error.detail


def test_without_time_for_another_attempt_the_first_error_is_the_answer() -> None:
    hurried = job(1, deadline=NOW + 1)
    outcome = Outcome.failed(Text2ImageResult, hurried.envelope, InternalError("a hiccup"))
    final = without_further_attempt(hurried, outcome, NOW)
    assert final.disposition is Disposition.DEAD_LETTER
    assert final.error is not None
    assert final.error.code == "internal"


def test_what_can_never_succeed_is_left_alone() -> None:
    outcome = Outcome.failed(Text2ImageResult, job(1).envelope, InvalidRequest("no"))
    assert without_further_attempt(job(1), outcome, NOW) is outcome
    stopped = Outcome.stopped(Text2ImageResult, job(1).envelope, Status.CANCELLED)
    assert without_further_attempt(job(1), stopped, NOW) is stopped
