"""What is worth another attempt, and which policies make sense."""

import math
from typing import Any

import pytest

from contracts.failure import FailureCode, Problem
from contracts.result import AnyResult, Status
from orchestrator_example.policy import (
    OnFailure,
    Policy,
    worth_a_fallback,
    worth_another_attempt,
)

SUBSTITUTE = OnFailure.SUBSTITUTE


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"on_failure": SUBSTITUTE}, "which needs it"),
        ({"substitute": {"text": "x"}}, "belongs to on_failure"),
        ({"substitute": {}, "on_failure": OnFailure.SKIP}, "belongs to on_failure"),
        ({"timeout_seconds": 0}, "over 0"),
        ({"timeout_seconds": -1}, "over 0"),
        ({"timeout_seconds": math.nan}, "over 0"),
        ({"timeout_seconds": math.inf}, "over 0"),
        ({"retries": -1}, "0 or more"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Policy(**given)


def test_an_empty_answer_is_a_substitute_too() -> None:
    assert Policy(on_failure=SUBSTITUTE, substitute={}).substitute == {}


@pytest.mark.parametrize(
    ("code", "worth"),
    [
        (FailureCode.INVALID_REQUEST, False),
        (FailureCode.UNSUPPORTED_CONTENT_TYPE, False),
        (FailureCode.SAFETY_REFUSED, False),
        (FailureCode.RESULT_TOO_LARGE, False),
        (FailureCode.CONFLICT, False),
        (FailureCode.CANCELLED, False),
        (FailureCode.GENERATION_FAILED, True),
        (FailureCode.OUT_OF_MEMORY, True),
        (FailureCode.DEADLINE_EXCEEDED, True),
        (FailureCode.MODEL_NOT_AVAILABLE, True),
        (FailureCode.ATTEMPTS_EXHAUSTED, True),
        (FailureCode.OVERLOADED, True),
        (FailureCode.INTERNAL, True),
    ],
)
def test_only_what_would_be_answered_again_is_not_tried_again(
    code: FailureCode, worth: bool
) -> None:
    problem = Problem.of(code, "x", job_id="j", retryable=False)
    assert worth_another_attempt(problem) is worth


def test_a_failure_without_a_reason_is_tried_again() -> None:
    assert worth_another_attempt(None)


@pytest.mark.parametrize(
    ("status", "code", "worth"),
    [
        (Status.FAILED, FailureCode.GENERATION_FAILED, True),
        (Status.FAILED, FailureCode.INVALID_REQUEST, True),
        (Status.FAILED, None, True),
        (Status.FAILED, FailureCode.SAFETY_REFUSED, False),
        (Status.CANCELLED, FailureCode.CANCELLED, False),
        (Status.SUCCEEDED, None, False),
    ],
)
def test_another_service_may_do_what_failed_and_not_what_was_refused_for_safety(
    status: Status, code: FailureCode | None, worth: bool
) -> None:
    problem = Problem.of(code, "x", job_id="j", retryable=False) if code else None
    assert worth_a_fallback(AnyResult(job_id="j", status=status, error=problem)) is worth
