"""The latest results of this node, in memory: all that a single node needs."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from node.ports import Clock, KeptResult


@dataclass(frozen=True, slots=True)
class _Entry:
    kept: KeptResult
    size_bytes: int
    kept_at: float


class RecentResults:
    """Results by job id, bounded by number, bytes and age; the latest is kept whatever its size."""

    def __init__(
        self, max_results: int, max_bytes: int, window_seconds: float, clock: Clock
    ) -> None:
        self._max_results = max_results
        self._max_bytes = max_bytes
        self._window_seconds = window_seconds
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def get(self, job_id: str) -> KeptResult | None:
        """Look up how a job ended, within the window."""
        self._forget_older(self._window_seconds)
        entry = self._entries.get(job_id)
        return entry.kept if entry is not None else None

    def add(self, kept: KeptResult) -> KeptResult:
        """Keep a result unless one stands that is not older; return the one that stands."""
        standing = self.get(kept.job_id)
        if standing is not None:
            if standing.replay >= kept.replay:
                return standing
            self._forget(kept.job_id)
        size_bytes = len(kept.outcome.result.to_json())
        self._entries[kept.job_id] = _Entry(kept, size_bytes, self._clock.monotonic())
        self._bytes += size_bytes
        while len(self._entries) > 1 and self._are_too_many():
            self._forget(next(iter(self._entries)))
        return kept

    async def run(self) -> None:
        """Wait until cancelled: claims inside one process need no renewal."""
        await asyncio.Event().wait()

    async def find(self, job_id: str) -> KeptResult | None:
        """Look up how a job ended, within the window."""
        return self.get(job_id)

    async def keep(self, kept: KeptResult) -> KeptResult:
        """Keep a result unless one stands that is not older; return the one that stands."""
        return self.add(kept)

    async def claim(self, job_id: str) -> bool:
        """Take the work on a job: nobody else is there to have it."""
        return True

    async def release(self, job_id: str) -> None:
        """Give the work up."""

    async def sweep(self, max_age_seconds: float) -> int:
        """Forget what was kept longer ago and return how many."""
        return self._forget_older(max_age_seconds)

    def _are_too_many(self) -> bool:
        return len(self._entries) > self._max_results or self._bytes > self._max_bytes

    def _forget_older(self, age_seconds: float) -> int:
        before = self._clock.monotonic() - age_seconds
        # They stand in the order in which they were kept.
        forgotten = 0
        while self._entries and next(iter(self._entries.values())).kept_at < before:
            self._forget(next(iter(self._entries)))
            forgotten += 1
        return forgotten

    def _forget(self, job_id: str) -> None:
        self._bytes -= self._entries.pop(job_id).size_bytes
