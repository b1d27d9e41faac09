"""The jobs that a gateway knows: those on their way, and for a while those that ended."""

from collections.abc import Iterator
from typing import Final

from orchestrator_example.gateway.job import Job

KEPT_JOBS: Final = 10_000
"""So many ended jobs at most: going through all of them must not take long."""


class JobMemory:
    """Forgets ended jobs by age, bytes and number; the one that ended first goes first."""

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._on_their_way: dict[str, Job] = {}
        self._ended: dict[str, Job] = {}
        self._ended_bytes = 0
        self.request_bytes = 0
        """What the requests of those on their way take."""

    def __iter__(self) -> Iterator[Job]:
        yield from self._ended.values()
        yield from self._on_their_way.values()

    def __contains__(self, job_id: str) -> bool:
        return self.get(job_id) is not None

    @property
    def num_on_their_way(self) -> int:
        """Count those that have not ended."""
        return len(self._on_their_way)

    def get(self, job_id: str) -> Job | None:
        """Look up a job."""
        return self._on_their_way.get(job_id) or self._ended.get(job_id)

    def begin(self, job: Job) -> None:
        """Take in a job that is on its way."""
        self._on_their_way[job.id] = job
        self.request_bytes += job.request_bytes

    def drop(self, job: Job) -> None:
        """Forget a job that was on its way."""
        del self._on_their_way[job.id]
        self.request_bytes -= job.request_bytes

    def keep(self, job: Job) -> None:
        """Take in a job that has ended."""
        if job.id in self._on_their_way:
            self.drop(job)
        self._ended[job.id] = job
        self._ended_bytes += job.num_bytes

    def forget(self, now: float) -> None:
        """Forget ended jobs that are too old or too many, or take too much memory."""
        for job in list(self._ended.values()):
            assert job.ended_at is not None
            is_old = now >= job.ended_at + self._seconds
            if not is_old and not self._is_full:
                return
            del self._ended[job.id]
            self._ended_bytes -= job.num_bytes

    @property
    def _is_full(self) -> bool:
        return self._ended_bytes > self._max_bytes or len(self._ended) > KEPT_JOBS
