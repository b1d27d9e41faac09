"""Which waiting job runs next."""

from collections.abc import Iterable

from node.job import Job


def next_job(waiting: Iterable[Job]) -> Job | None:
    """Choose the most urgent job; among equals the one that came first."""
    return min(waiting, key=lambda job: (-job.priority, job.received_at), default=None)
