"""Errors, as the `openai` package reads them."""

import json

import pytest

from contracts.failure import FailureCode, Problem
from contracts.result import Status
from contracts.text2image import Text2ImageResult
from node.errors import (
    BrokerUnavailable,
    Conflict,
    JobNotSucceeded,
    ModelNotAvailable,
    NodeError,
    Overloaded,
)
from orchestrator_example.gateway.errors import (
    BodyTooLarge,
    Busy,
    TooManyRequests,
    Unauthorized,
)
from orchestrator_example.gateway.openai_errors import (
    InvalidParameter,
    UnknownParameter,
    openai_refusal,
)


def failed(code: FailureCode, *, retryable: bool = False, detail: str = "why") -> JobNotSucceeded:
    problem = Problem.of(code, detail, job_id="j", retryable=retryable)
    return JobNotSucceeded(Text2ImageResult(job_id="j", status=Status.FAILED, error=problem))


@pytest.mark.parametrize(
    ("error", "status", "type", "code", "param"),
    [
        (InvalidParameter("why", "size"), 400, "invalid_request_error", "invalid_value", "size"),
        (UnknownParameter("why", "x"), 400, "invalid_request_error", "unknown_parameter", "x"),
        (
            failed(FailureCode.INVALID_REQUEST),
            400,
            "invalid_request_error",
            "invalid_value",
            None,
        ),
        (
            failed(FailureCode.SAFETY_REFUSED),
            400,
            "invalid_request_error",
            "content_policy_violation",
            None,
        ),
        (Unauthorized("why"), 401, "invalid_request_error", "invalid_api_key", None),
        (ModelNotAvailable("why"), 404, "invalid_request_error", "model_not_found", "model"),
        (
            failed(FailureCode.MODEL_NOT_AVAILABLE),
            404,
            "invalid_request_error",
            "model_not_found",
            "model",
        ),
        (Conflict("why"), 409, "invalid_request_error", "conflict", None),
        (failed(FailureCode.CANCELLED), 409, "invalid_request_error", "cancelled", None),
        (BodyTooLarge("why"), 413, "invalid_request_error", "body_too_large", None),
        (TooManyRequests("why", 7.2), 429, "requests", "rate_limit_exceeded", None),
        (failed(FailureCode.GENERATION_FAILED), 500, "server_error", "generation_failed", None),
        (Busy("why", 5), 503, "server_error", "busy", None),
        (Overloaded("why", 5), 503, "server_error", "overloaded", None),
        (BrokerUnavailable("why"), 503, "server_error", "broker_unavailable", None),
        (failed(FailureCode.DEADLINE_EXCEEDED), 504, "server_error", "deadline_exceeded", None),
    ],
)
def test_an_error_has_openai_s_shape(
    error: NodeError, status: int, type: str, code: str, param: str | None
) -> None:
    answer = openai_refusal(error)
    assert answer.status_code == status
    body = json.loads(bytes(answer.body))
    assert body == {"error": {"message": "why", "type": type, "param": param, "code": code}}


@pytest.mark.parametrize("error", [TooManyRequests("why", 7.2), Busy("why", 7.2)])
def test_who_should_come_again_later_is_told_when(error: NodeError) -> None:
    headers = openai_refusal(error).headers
    assert headers["retry-after"] == "8"
    assert "x-should-retry" not in headers


def test_a_failure_that_may_pass_is_tried_again_by_the_client() -> None:
    headers = openai_refusal(failed(FailureCode.OUT_OF_MEMORY, retryable=True)).headers
    assert "x-should-retry" not in headers


@pytest.mark.parametrize(
    "error",
    [
        Conflict("why"),
        failed(FailureCode.CANCELLED),
        failed(FailureCode.GENERATION_FAILED),
        failed(FailureCode.DEADLINE_EXCEEDED, retryable=True),
    ],
)
def test_what_the_client_would_try_again_in_vain_says_so(error: NodeError) -> None:
    assert openai_refusal(error).headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("detail", "param"),
    [
        ("width: 2048 is outside of 64..1024, what this node offers", "size"),
        ("num_images_per_prompt: 9 is outside of 1..4, what this node offers", "n"),
        ("scheduler: this model has no 'x', but y", "scheduler"),
        ("the prompt: no", None),
    ],
)
def test_what_a_node_refuses_is_told_by_openai_s_name(detail: str, param: str | None) -> None:
    answer = openai_refusal(failed(FailureCode.INVALID_REQUEST, detail=detail))
    error = json.loads(bytes(answer.body))["error"]
    assert (error["message"], error["param"]) == (detail, param)
