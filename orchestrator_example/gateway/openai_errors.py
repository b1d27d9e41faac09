"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`. Pure.

The `openai` package tells its exceptions apart by the HTTP status, and tries again by itself at
408, 409, 429 and 5xx, after Retry-After, unless `X-Should-Retry` is `false`.
"""

from collections.abc import Mapping
from typing import Final

from fastapi.responses import JSONResponse
from pydantic import Field

from contracts.failure import FailureCode
from contracts.message import Message
from contracts.text2image import Text2ImageRequest
from node.errors import NodeError
from orchestrator_example.gateway.errors import BadRequest
from orchestrator_example.gateway.problems import HttpProblem, Refusal, refusal_of

# What cannot be done as it is asked for is a BadRequestError there.
_STATUS: Final[Mapping[str, int]] = {
    FailureCode.INVALID_REQUEST: 400,
    FailureCode.SAFETY_REFUSED: 400,
}
_CODE: Final[Mapping[str, str]] = {
    FailureCode.INVALID_REQUEST: "invalid_value",
    FailureCode.MODEL_NOT_AVAILABLE: "model_not_found",
    FailureCode.SAFETY_REFUSED: "content_policy_violation",
    "unauthorized": "invalid_api_key",
    "too_many_requests": "rate_limit_exceeded",
}
_NAMES: Final = {
    "num_images_per_prompt": "n",
    "width": "size",
    "height": "size",
    "output_quality": "output_compression",
}
# The caller has waited all its time, or wants no more: not tried again unasked.
_FINAL: Final = frozenset({FailureCode.DEADLINE_EXCEEDED.value, FailureCode.CANCELLED.value})


class InvalidParameter(BadRequest):
    """A request that cannot be done as it is; `param` says which part, where one does."""

    code = "invalid_value"

    def __init__(self, detail: str, param: str | None = None) -> None:
        super().__init__(detail)
        self.param = param


class UnknownParameter(InvalidParameter):
    code = "unknown_parameter"


class ErrorDetail(Message):
    """What went wrong."""

    message: str = Field(examples=["no node offers the model 'dall-e-3'; offered are: sd"])
    """What happened, and what to do about it."""
    type: str = Field(examples=["invalid_request_error"])
    """Kind of error."""
    param: str | None = Field(default=None, examples=["model"])
    """The parameter at fault, where one is."""
    code: str | None = Field(default=None, examples=["model_not_found"])
    """What went wrong, for programs."""


class OpenAIError(Message):
    """An error, as OpenAI's clients read it."""

    error: ErrorDetail
    """What went wrong."""


def openai_error(error: NodeError) -> OpenAIError:
    """Say what went wrong in OpenAI's words."""
    problem = refusal_of(error).problem
    return OpenAIError(
        error=ErrorDetail(
            message=problem.detail,
            type=_type(_status(problem)),
            param=getattr(error, "param", None) or _param(problem),
            code=_CODE.get(problem.code, problem.code),
        )
    )


def openai_refusal(error: NodeError) -> JSONResponse:
    """Answer with an error."""
    refusal = refusal_of(error)
    body = openai_error(error).model_dump()
    return JSONResponse(body, _status(refusal.problem), _headers(refusal))


def as_openai_calls_it(field: str) -> str:
    """Name a field of ours as OpenAI's parameter, where it is one."""
    return _NAMES.get(field, field)


def _param(problem: HttpProblem) -> str | None:
    """Find what a service refused: its sentence begins with the name of the field."""
    if problem.code == FailureCode.MODEL_NOT_AVAILABLE:
        return "model"
    name = problem.detail.partition(":")[0]
    if problem.code == FailureCode.INVALID_REQUEST and name in Text2ImageRequest.model_fields:
        return as_openai_calls_it(name)
    return None


def _headers(refusal: Refusal) -> dict[str, str]:
    problem = refusal.problem
    if problem.retryable and problem.code not in _FINAL:
        return refusal.headers
    return {**refusal.headers, "X-Should-Retry": "false"}


def _status(problem: HttpProblem) -> int:
    return _STATUS.get(problem.code, problem.status)


def _type(status: int) -> str:
    if status >= 500:
        return "server_error"
    return "requests" if status == 429 else "invalid_request_error"
