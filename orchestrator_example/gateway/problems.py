"""Errors as HTTP tells them: problem details (RFC 9457), with Retry-After where waiting helps."""

import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi.responses import JSONResponse
from pydantic import Field

from contracts.failure import PROBLEM_TYPE_BASE, FailureCode, Problem
from contracts.message import Message
from contracts.result import JobResult
from node.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    BrokerUnavailable,
    JobError,
    JobNotSucceeded,
    MessageTooLarge,
    NodeError,
    Overloaded,
    PublishRefused,
    StoreUnavailable,
    TopologyMismatch,
    Unroutable,
)
from orchestrator_example.gateway.errors import GatewayError

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = 5.0

# Status, code and title of what the broker and the stores refuse, and whether waiting helps.
_ELSEWHERE: Final[dict[type[NodeError], tuple[int, str, str, bool]]] = {
    BrokerUnavailable: (503, "broker_unavailable", "The broker does not answer", True),
    Unroutable: (503, "broker_unavailable", "The broker takes no message", True),
    PublishRefused: (503, "overloaded", "The queue is full", True),
    TopologyMismatch: (503, "service_not_there", "No queue of the service is there", True),
    MessageTooLarge: (413, "body_too_large", "The request is too large", False),
    StoreUnavailable: (503, "store_unavailable", "The store does not answer", True),
    ArtifactMissing: (410, "artifact_missing", "The file is not there any more", False),
    ArtifactCorrupt: (500, "artifact_corrupt", "The file is damaged", False),
}
# Said in the place of texts with addresses of our own, which are for the log.
_DISCREET: Final[dict[type[NodeError], str]] = {
    BrokerUnavailable: "the message broker does not answer; ask again",
    Unroutable: "the message broker takes no message; ask again",
    StoreUnavailable: "the store of jobs or pictures does not answer; ask again",
}


class HttpProblem(Message):
    """Problem details after RFC 9457."""

    type: str = Field(examples=[PROBLEM_TYPE_BASE + "busy"])
    """URI of the kind of problem."""
    title: str = Field(examples=["The service cannot take this now"])
    """The kind of problem in one line."""
    status: int = Field(ge=400, le=599, examples=[503])
    """HTTP status."""
    detail: str = Field(examples=["1000 jobs are on their way, no more are taken"])
    """What went wrong this time and what to do about it."""
    code: str = Field(examples=["busy"])
    """What went wrong, for programs."""
    retryable: bool = Field(examples=[True])
    """Whether the same request may succeed later."""
    instance: str | None = None
    """Id of the job, where there is one."""
    errors: list[dict[str, Any]] | None = None
    """Every fault of an invalid request: type, loc, msg, input."""


_CONTENT: Final = {
    PROBLEM_MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{HttpProblem.__name__}"}}
}
RETRY_AFTER: Final = {
    "Retry-After": {
        "description": "Seconds until it helps to ask again, where waiting helps",
        "schema": {"type": "integer", "minimum": 1},
    }
}
PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    422: {"description": "The request is not valid", "content": _CONTENT},
    "4XX": {
        "description": "The request cannot be done as it is, or not by this caller",
        "headers": RETRY_AFTER,
        "content": _CONTENT,
    },
    "5XX": {"description": "It cannot be done now", "headers": RETRY_AFTER, "content": _CONTENT},
}
"""The answers of a door that refuses with problem details, for its OpenAPI document."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A problem, and after how many seconds to ask again."""

    problem: HttpProblem
    retry_after_seconds: float | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with it."""
        headers = {}
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = str(max(math.ceil(self.retry_after_seconds), 1))
        if self.problem.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


def refusal_of(error: NodeError) -> Refusal:
    """Say in HTTP's words what an error is."""
    match error:
        case GatewayError():
            wait = error.retry_after_seconds
            found = _problem(error.status, error.code, error.title, error, wait is not None)
            return Refusal(found, wait)
        case JobNotSucceeded():
            return refusal_of_result(error.result)
        case Overloaded():
            return Refusal(_of_job(error.problem("", 1)), error.retry_after_seconds)
        case JobError():
            return Refusal(_of_job(error.problem("", 1)))
    for kind, (status, code, title, waiting_helps) in _ELSEWHERE.items():
        if isinstance(error, kind):
            found = _problem(status, code, title, _discreet(error), waiting_helps)
            return Refusal(found, RETRY_SECONDS if waiting_helps else None)
    return Refusal(_problem(500, "internal", "The gateway failed", error, retryable=True))


def refusal_of_result(result: JobResult) -> Refusal:
    """Say in HTTP's words why a job did not succeed."""
    problem = result.error or Problem.of(
        FailureCode.INTERNAL,
        f"the job ended as {result.status.value}, without a reason",
        job_id=result.job_id,
        retryable=False,
    )
    waiting_helps = problem.retryable and problem.status == HTTPStatus.SERVICE_UNAVAILABLE
    return Refusal(_of_job(problem), RETRY_SECONDS if waiting_helps else None)


def problem_answer(refusal: Refusal) -> JSONResponse:
    """Answer with problem details."""
    return JSONResponse(
        refusal.problem.model_dump(exclude_none=True),
        refusal.problem.status,
        refusal.headers,
        PROBLEM_MEDIA_TYPE,
    )


def _discreet(error: NodeError) -> str:
    has_address = "://" in str(error)
    return _DISCREET.get(type(error), str(error)) if has_address else str(error)


def _of_job(problem: Problem) -> HttpProblem:
    return HttpProblem(
        type=problem.type,
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        code=problem.code.value,
        retryable=problem.retryable,
        instance=problem.instance or None,
    )


def _problem(status: int, code: str, title: str, detail: object, retryable: bool) -> HttpProblem:
    return HttpProblem(
        type=PROBLEM_TYPE_BASE + code,
        title=title,
        status=status,
        detail=str(detail),
        code=code,
        retryable=retryable,
    )
