"""Results in memory and in the shared store: one node of a fleet, that can go on alone."""

import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from node.errors import StoreUnavailable
from node.ports import KeptResult, ResultStore
from node.stores.recent import RecentResults

R = TypeVar("R")

PAUSE_SECONDS: Final = 5.0
"""How long a store that did not answer is left alone: jobs must not wait for it one by one."""

log = structlog.get_logger(__name__)


class SharedResults:
    """Looks into memory first, then into the shared store; without that it goes on alone."""

    def __init__(
        self,
        recent: RecentResults,
        shared: ResultStore,
        *,
        pause_seconds: float = PAUSE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recent = recent
        self._shared = shared
        self._pause_seconds = pause_seconds
        self._monotonic = monotonic
        self._away = False
        self._ask_again_at = 0.0

    async def run(self) -> None:
        """Keep the claims of this node alive until cancelled."""
        await self._shared.run()

    async def find(self, job_id: str) -> KeptResult | None:
        """Look up how a job ended."""
        kept = self._recent.get(job_id)
        if kept is not None:
            return kept
        found = await self._ask(lambda: self._shared.find(job_id), None)
        return found and self._recent.add(found)

    async def keep(self, kept: KeptResult) -> KeptResult:
        """Keep a result; return the one that stands in the fleet, or here when there is none."""
        return self._recent.add(await self._ask(lambda: self._shared.keep(kept), kept))

    async def claim(self, job_id: str) -> bool:
        """Take the work on a job; True when nobody can be asked."""
        return await self._ask(lambda: self._shared.claim(job_id), True)

    async def release(self, job_id: str) -> None:
        """Give the work up."""
        # Asked even while the store is left alone: what is not released stays claimed for as long
        # as this node lives. A store that does not answer lets the claim lapse.
        try:
            await self._shared.release(job_id)
        except StoreUnavailable as error:
            log.info("claim.not_released", job_id=job_id, reason=str(error))

    async def sweep(self, max_age_seconds: float) -> int:
        """Delete what was kept longer ago; memory has bounds of its own."""
        return await self._ask(lambda: self._shared.sweep(max_age_seconds), 0)

    async def _ask(self, call: Callable[[], Awaitable[R]], alone: R) -> R:
        """Ask the shared store; `alone` is the answer while it is away."""
        if self._away and self._monotonic() < self._ask_again_at:
            return alone
        try:
            answer = await call()
        except StoreUnavailable as error:
            if not self._away:
                log.warning("results.unshared", reason=str(error), remedy="the node goes on alone")
            self._away = True
            self._ask_again_at = self._monotonic() + self._pause_seconds
            return alone
        if self._away:
            log.info("results.shared_again")
        self._away = False
        return answer
