"""A request inside the node, and how it ends."""

import pytest

from contracts.failure import FailureCode
from contracts.result import Status
from contracts.text2image import Text2ImageResult
from node.errors import Disposition, InternalError, InvalidRequest
from node.job import Outcome
from tests.unit.builders import envelope, job, succeeded


def test_a_job_is_known_by_the_id_of_its_envelope() -> None:
    assert job("mine").id == "mine"


def test_an_error_ends_a_job_as_failed_with_its_code_and_disposition() -> None:
    error = InvalidRequest("prompt: must not be blank")
    outcome = Outcome.failed(Text2ImageResult, envelope(attempt=2), error)
    assert (outcome.status, outcome.disposition) == (Status.FAILED, Disposition.DEAD_LETTER)
    assert outcome.error.detail == "prompt: must not be blank"
    assert (outcome.error.code, outcome.error.attempt) == (FailureCode.INVALID_REQUEST, 2)
    assert (outcome.error.instance, outcome.result.job_id) == ("job", "job")
    assert not outcome.error.retryable


def test_a_failure_that_may_pass_says_so() -> None:
    outcome = Outcome.failed(Text2ImageResult, envelope(), InternalError("a passing fault"))
    assert outcome.error.retryable
    assert outcome.disposition is Disposition.RETRY


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (Status.CANCELLED, FailureCode.CANCELLED, False),
        (Status.EXPIRED, FailureCode.DEADLINE_EXCEEDED, True),
    ],
)
def test_a_stopped_job_is_an_outcome_and_nothing_for_people(
    status: Status, code: FailureCode, retryable: bool
) -> None:
    outcome = Outcome.stopped(Text2ImageResult, envelope(), status)
    assert (outcome.status, outcome.error.code) == (status, code)
    assert outcome.error.retryable is retryable
    assert outcome.disposition is Disposition.ACK


def test_a_success_has_no_error() -> None:
    assert succeeded().error is None
    assert succeeded().disposition is Disposition.ACK
