"""Why a stage's job ended, where its service did not say so, or said too much."""

import pytest

from contracts.failure import FailureCode, Problem
from contracts.result import AnyResult, Status
from orchestrator_example.ends import MAX_DETAIL_CHARS, explained, failed


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.FAILED, FailureCode.GENERATION_FAILED),
        (Status.CANCELLED, FailureCode.CANCELLED),
        (Status.EXPIRED, FailureCode.DEADLINE_EXCEEDED),
    ],
)
def test_an_end_without_a_reason_is_explained(status: Status, code: FailureCode) -> None:
    result = explained(AnyResult(job_id="j", status=status))
    assert result.status is status
    assert result.error is not None
    assert (result.error.code, result.error.instance) == (code, "j")
    assert result.error.detail == "its service did not say why"


def test_a_reason_stays_as_it_is_and_a_long_one_is_cut() -> None:
    short = failed("j", FailureCode.SAFETY_REFUSED, "not this")
    assert explained(short) == short
    long = explained(failed("j", FailureCode.INTERNAL, "D" * 3_000_000))
    assert long.error is not None
    assert (long.error.code, len(long.error.detail)) == (FailureCode.INTERNAL, MAX_DETAIL_CHARS)


def test_success_needs_no_reason() -> None:
    problem = Problem.of(FailureCode.INTERNAL, "x" * 9000, job_id="j", retryable=False)
    for error in (None, problem):
        result = AnyResult(job_id="j", status=Status.SUCCEEDED, error=error)
        assert explained(result) is result


@pytest.mark.parametrize(
    ("code", "retryable"),
    [(FailureCode.DEADLINE_EXCEEDED, True), (FailureCode.INVALID_REQUEST, False)],
)
def test_only_what_gave_no_answer_in_time_is_worth_asking_again(
    code: FailureCode, retryable: bool
) -> None:
    result = failed("j", code, "no")
    assert result.status is Status.FAILED
    assert result.error is not None
    assert result.error.retryable is retryable
