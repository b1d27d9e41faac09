"""How often a job is tried."""

from dataclasses import replace

from contracts.topology import RETRY_DELAYS_SECONDS
from node.errors import AttemptsExhausted, Disposition
from node.job import Job, Outcome


def retry_delay(attempt: int, deadline: float | None, time: float) -> int | None:
    """Seconds to wait before the next attempt; None when there must not be one."""
    if attempt > len(RETRY_DELAYS_SECONDS):
        return None
    delay = RETRY_DELAYS_SECONDS[attempt - 1]
    return None if deadline is not None and time + delay >= deadline else delay


def without_further_attempt(job: Job, outcome: Outcome, time: float) -> Outcome:
    """Turn a failure that may pass into a final one when its attempts or time are used up."""
    error, attempt = outcome.error, job.envelope.attempt
    if outcome.disposition is not Disposition.RETRY or error is None:
        return outcome
    if retry_delay(attempt, job.deadline, time) is not None:
        return outcome
    if attempt > 1:
        detail = f"attempt {attempt} failed as those before; the last error: {error.detail}"
        error = AttemptsExhausted(detail).problem(job.id, attempt)
    result = outcome.result.model_copy(update={"error": error})
    return replace(outcome, result=result, disposition=Disposition.DEAD_LETTER)
