"""Whether the HTTP service behind a bridge is there, as of its latest signs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

PATIENCE: Final = 3
"""So many probes in a row must fail: a service that restarts quickly is no news."""
LOG_AGAIN_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)

Probe = Callable[[], Awaitable[str]]
"""Says why the service is not there; empty when it is."""


class Watch:
    """Asks for a sign of life every so often; calls that are answered are one as well.

    Services of OPEA answer nothing else while they compute, so none is asked while a call runs.
    """

    def __init__(self, address: str, probe: Probe, every_seconds: float) -> None:
        self._address = address
        self._probe = probe
        self._every_seconds = every_seconds
        self._failed = 0
        self.calls = 0
        """Calls that run now."""
        self.problem = "nobody has looked yet whether the HTTP service is there"
        """Why the service is not there; empty when it is."""

    async def wait_until_there(self) -> None:
        """Wait for the first sign of life, and say now and then what for."""
        clock = asyncio.get_running_loop().time
        said, say_again_at = "", 0.0
        while problem := await self._probe():
            self.problem = f"waiting for the HTTP service: {problem}"
            if problem != said or clock() >= say_again_at:
                log.warning("service.awaited", why=problem, look_again_seconds=self._every_seconds)
                said, say_again_at = problem, clock() + LOG_AGAIN_SECONDS
            await asyncio.sleep(self._every_seconds)
        self.seen()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._every_seconds)
            if self.calls:
                continue
            problem = await self._probe()
            if not problem:
                self.seen()
            elif not self.calls:
                self._missed(problem)

    def seen(self) -> None:
        """Take in that the service answered."""
        if self.problem:
            log.info("service.reached", address=self._address)
        self._failed, self.problem = 0, ""

    def _missed(self, problem: str) -> None:
        self._failed += 1
        if self._failed >= PATIENCE and not self.problem:
            log.warning("service.lost", why=problem)
        if self._failed >= PATIENCE:
            self.problem = f"the HTTP service is gone: {problem}"
