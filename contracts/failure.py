"""Why a job did not succeed: problem details (RFC 9457) and the closed set of codes."""

from enum import StrEnum
from typing import Final

from pydantic import Field

from contracts import examples
from contracts.message import Message, example

PROBLEM_TYPE_BASE: Final = "urn:text2image-node:problem:"


class FailureCode(StrEnum):
    """What went wrong, for programs."""

    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_CONTENT_TYPE = "unsupported_content_type"
    MODEL_NOT_AVAILABLE = "model_not_available"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    OUT_OF_MEMORY = "out_of_memory"
    GENERATION_FAILED = "generation_failed"
    SAFETY_REFUSED = "safety_refused"
    RESULT_TOO_LARGE = "result_too_large"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    OVERLOADED = "overloaded"
    CONFLICT = "conflict"
    INTERNAL = "internal"


# HTTP status and title of each code, so that a gateway need not invent its own.
_HTTP: Final[dict[FailureCode, tuple[int, str]]] = {
    FailureCode.INVALID_REQUEST: (422, "The request is not valid"),
    FailureCode.UNSUPPORTED_CONTENT_TYPE: (415, "Only application/json is accepted"),
    FailureCode.MODEL_NOT_AVAILABLE: (404, "No node offers this model"),
    FailureCode.DEADLINE_EXCEEDED: (504, "The deadline passed"),
    FailureCode.CANCELLED: (409, "The job was cancelled"),
    FailureCode.OUT_OF_MEMORY: (507, "The device ran out of memory"),
    FailureCode.GENERATION_FAILED: (500, "The work could not be done"),
    FailureCode.SAFETY_REFUSED: (451, "Refused by a safety check"),
    FailureCode.RESULT_TOO_LARGE: (413, "The result is too large for a message"),
    FailureCode.ATTEMPTS_EXHAUSTED: (500, "Every attempt failed"),
    FailureCode.OVERLOADED: (503, "The queue is full"),
    FailureCode.CONFLICT: (409, "This job id was used for another request"),
    FailureCode.INTERNAL: (500, "The node failed"),
}


class Problem(Message):
    """Problem details of a job that did not succeed, after RFC 9457."""

    model_config = example(
        type=PROBLEM_TYPE_BASE + "invalid_request",
        title="The request is not valid",
        status=422,
        detail="width: Input should be a multiple of 8 (got 513)",
        instance=examples.JOB_ID,
        code="invalid_request",
        retryable=False,
        attempt=1,
    )

    type: str = Field(examples=[PROBLEM_TYPE_BASE + "invalid_request"])
    """URI of the kind of problem."""
    title: str = Field(examples=["The request is not valid"])
    """The kind of problem in one line, the same for every occurrence."""
    status: int = Field(ge=400, le=599, examples=[422])
    """HTTP status a gateway answers with."""
    detail: str = Field(examples=["width: Input should be a multiple of 8 (got 513)"])
    """What went wrong this time and what to do about it."""
    instance: str = Field(examples=[examples.JOB_ID])
    """Id of the job."""
    code: FailureCode = Field(examples=["invalid_request"])
    """What went wrong, for programs."""
    retryable: bool = Field(examples=[False])
    """Whether the same request may succeed later."""
    attempt: int = Field(default=1, ge=1, examples=[1])
    """How many times the job had been tried."""

    @classmethod
    def of(
        cls, code: FailureCode, detail: str, *, job_id: str, retryable: bool, attempt: int = 1
    ) -> "Problem":
        """Fill in type, title and HTTP status from the code."""
        status, title = _HTTP[code]
        return cls(
            type=PROBLEM_TYPE_BASE + code,
            title=title,
            status=status,
            detail=detail,
            instance=job_id,
            code=code,
            retryable=retryable,
            attempt=attempt,
        )
