"""A request inside the node, from delivery to outcome."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from contracts.failure import FailureCode, Problem
from contracts.message import Message
from contracts.result import JobResult, NodeInfo, Status
from node.errors import Disposition, JobError

_STOPPED = {
    Status.CANCELLED: (FailureCode.CANCELLED, "the job was cancelled by its caller"),
    Status.EXPIRED: (FailureCode.DEADLINE_EXCEEDED, "the deadline passed before the job was done"),
}


@dataclass(frozen=True, slots=True)
class Envelope:
    """Where answers about a job go, and what they carry along.

    `headers` holds only what is passed through: trace context and CloudEvents attributes.
    """

    job_id: str
    reply_to: str | None
    correlation_id: str | None
    headers: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Job:
    """A validated request with everything that scheduling and work need to know.

    `deadline` is in Unix seconds; `received_at` is monotonic seconds; `fingerprint` is the
    SHA-256 of the validated request, so that one id with two bodies is noticed. `replay` counts how
    often a person took the request out of the dead-letter queue.
    """

    envelope: Envelope
    request: Message
    fingerprint: str
    received_at: float
    priority: int = 0
    deadline: float | None = None
    replay: int = 0

    @property
    def id(self) -> str:
        return self.envelope.job_id

    def tried(self, attempt: int) -> "Job":
        """The same job at another attempt."""
        return replace(self, envelope=replace(self.envelope, attempt=attempt))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: the one result that every copy of its request is answered with."""

    result: JobResult
    disposition: Disposition = Disposition.ACK

    @property
    def status(self) -> Status:
        return self.result.status

    @property
    def error(self) -> Problem | None:
        return self.result.error

    @classmethod
    def failed(cls, result_model: type[JobResult], envelope: Envelope, error: JobError) -> Self:
        """End a job with an error."""
        problem = error.problem(envelope.job_id, envelope.attempt)
        result = result_model(job_id=envelope.job_id, status=Status.FAILED, error=problem)
        return cls(result, error.disposition)

    @classmethod
    def stopped(cls, result_model: type[JobResult], envelope: Envelope, status: Status) -> Self:
        """End a job as `cancelled` or `expired`."""
        problem = stopped_problem(status, envelope.job_id, envelope.attempt)
        return cls(result_model(job_id=envelope.job_id, status=status, error=problem))

    def of(self, job: Job, node: NodeInfo, started_at: float, ended_at: float) -> Self:
        """Fill in the node, the caller's metadata, and the times (monotonic seconds)."""
        timings = self.result.timings.model_copy(
            update={
                "queue_seconds": round(started_at - job.received_at, 6),
                "total_seconds": round(ended_at - job.received_at, 6),
            }
        )
        metadata = getattr(job.request, "metadata", {})
        update = {"node": node, "timings": timings, "metadata": metadata}
        return replace(self, result=self.result.model_copy(update=update))


def stopped_problem(status: Status, job_id: str, attempt: int = 1) -> Problem:
    """Describe for the caller why a job was `cancelled` or `expired`."""
    code, detail = _STOPPED[status]
    retryable = status is Status.EXPIRED
    return Problem.of(code, detail, job_id=job_id, retryable=retryable, attempt=attempt)
