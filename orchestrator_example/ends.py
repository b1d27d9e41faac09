"""How a stage's job ended, where its service did not say so. Pure."""

from typing import Final

from contracts.failure import FailureCode, Problem
from contracts.result import AnyResult, Status

MAX_DETAIL_CHARS: Final = 2000
UNEXPLAINED: Final = {
    Status.FAILED: FailureCode.GENERATION_FAILED,
    Status.CANCELLED: FailureCode.CANCELLED,
    Status.EXPIRED: FailureCode.DEADLINE_EXCEEDED,
}


def failed(job_id: str, code: FailureCode, detail: str) -> AnyResult:
    """End a job here: its service will give no answer."""
    retryable = code is FailureCode.DEADLINE_EXCEEDED
    problem = Problem.of(code, detail, job_id=job_id, retryable=retryable)
    return AnyResult(job_id=job_id, status=Status.FAILED, error=problem)


def explained(result: AnyResult) -> AnyResult:
    """Say why a job ended where its service did not, and briefly where it said much."""
    if result.status is Status.SUCCEEDED:
        return result
    error = result.error
    if error is None:
        why, code = "its service did not say why", UNEXPLAINED[result.status]
        error = Problem.of(code, why, job_id=result.job_id, retryable=False)
    error = error.model_copy(update={"detail": error.detail[:MAX_DETAIL_CHARS]})
    return result.model_copy(update={"error": error})
