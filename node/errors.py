"""Everything that goes wrong, in one tree.

NodeError
├── JobError                    ends a job; carries its wire code and its disposition
│   ├── InvalidRequest          ┐
│   ├── UnsupportedContentType  │
│   ├── Conflict                │ the request can never succeed:
│   ├── SafetyRefused           │ failed result, dead letter
│   ├── ResultTooLarge          │
│   ├── GenerationFailed        │
│   ├── AttemptsExhausted       ┘
│   ├── ModelNotAvailable       another node may offer the model: its queue, else as above
│   ├── OutOfMemory             ┐ may succeed later or elsewhere: retry queues
│   ├── InternalError           ┘
│   └── Overloaded              the broker refused the request: only clients see it
├── JobStopped                  cancelled or past the deadline: an outcome, not a failure
├── MessagingError              the broker could not do what was asked
│   ├── BrokerUnavailable       no connection within the bound; the call may have happened
│   ├── Unroutable              no queue takes the message
│   ├── PublishRefused          the queue is full (reject-publish)
│   ├── MessageTooLarge         the broker takes no message of this size
│   └── TopologyMismatch        an exchange or queue is missing, different or forbidden
├── StoreError                  files or results that nodes share
│   ├── StoreUnavailable        the store did not answer, is full, or refused
│   ├── ArtifactMissing         the object is not there: past its retention, or never written
│   └── ArtifactCorrupt         the object is not what its SHA-256 says
├── JobNotSucceeded             a client's job ended otherwise; carries the result
│   ├── JobFailed
│   ├── JobCancelled
│   └── JobExpired
├── NodeUnfit                   nothing works here until the process starts anew
└── SetupError                  a person must change something first: one line, exit code 1
"""

from enum import StrEnum

from contracts.failure import FailureCode, Problem
from contracts.result import JobResult, Status


class Disposition(StrEnum):
    """What becomes of a request once this node is done with it; each way ends in an ack.

    `ack`: only the result is owed. `dead_letter`: also a copy for people. `retry`: instead of a
    result, a copy that waits for its next attempt. `forward`: a copy to the queue of its model.
    """

    ACK = "ack"
    DEAD_LETTER = "dead_letter"
    RETRY = "retry"
    FORWARD = "forward"


class NodeError(Exception):
    """Root of every error that this package raises on purpose."""


class JobError(NodeError):
    """A job that fails, and what that means on the wire."""

    code: FailureCode
    disposition = Disposition.DEAD_LETTER

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def problem(self, job_id: str, attempt: int) -> Problem:
        """Describe the failure for the caller (RFC 9457)."""
        retryable = self.disposition is Disposition.RETRY
        return Problem.of(
            self.code, self.detail, job_id=job_id, retryable=retryable, attempt=attempt
        )


class InvalidRequest(JobError):
    code = FailureCode.INVALID_REQUEST


class UnsupportedContentType(JobError):
    code = FailureCode.UNSUPPORTED_CONTENT_TYPE


class ModelNotAvailable(JobError):
    code = FailureCode.MODEL_NOT_AVAILABLE
    disposition = Disposition.FORWARD


class Conflict(JobError):
    code = FailureCode.CONFLICT


class SafetyRefused(JobError):
    code = FailureCode.SAFETY_REFUSED


class ResultTooLarge(JobError):
    code = FailureCode.RESULT_TOO_LARGE


class GenerationFailed(JobError):
    code = FailureCode.GENERATION_FAILED


class AttemptsExhausted(JobError):
    code = FailureCode.ATTEMPTS_EXHAUSTED


class OutOfMemory(JobError):
    code = FailureCode.OUT_OF_MEMORY
    disposition = Disposition.RETRY


class InternalError(JobError):
    code = FailureCode.INTERNAL
    disposition = Disposition.RETRY


class Overloaded(JobError):
    """The queue is full; asking again after `retry_after_seconds` may succeed."""

    code = FailureCode.OVERLOADED
    disposition = Disposition.RETRY

    def __init__(self, detail: str, retry_after_seconds: float = 5.0) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class JobStopped(NodeError):
    """The job was told to stop and did, between two inference steps."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.value)
        self.status = status


class MessagingError(NodeError):
    """The broker could not do what was asked."""


class BrokerUnavailable(MessagingError):
    """No answer within the bound; what was asked may or may not have happened."""


class Unroutable(MessagingError):
    """No queue is bound for the message."""


class PublishRefused(MessagingError):
    """The broker refused the message: the queue is full."""


class MessageTooLarge(MessagingError):
    """The broker takes no message of this size, now or later (its `max_message_size`)."""


class TopologyMismatch(MessagingError):
    """The broker's exchanges or queues are not as needed, and may not be changed by us."""


class StoreError(NodeError):
    """A store of artifacts or results did not do what was asked."""


class StoreUnavailable(StoreError):
    """The store did not answer within the bound, is full, or refused."""


class ArtifactMissing(StoreError):
    """The object is not there."""


class ArtifactCorrupt(StoreError):
    """The object is not what its name and SHA-256 say."""


class JobNotSucceeded(NodeError):
    """What a client raises for a job that did not succeed; `result` tells the whole story."""

    def __init__(self, result: JobResult) -> None:
        problem = result.error
        super().__init__(f"{problem.code}: {problem.detail}" if problem else result.status.value)
        self.result = result


class JobFailed(JobNotSucceeded):
    pass


class JobCancelled(JobNotSucceeded):
    pass


class JobExpired(JobNotSucceeded):
    pass


class NodeUnfit(NodeError):
    """No job can succeed in this process any more; in a new one it may."""


class SetupError(NodeError):
    """Nothing works until a person changes what the message says."""
