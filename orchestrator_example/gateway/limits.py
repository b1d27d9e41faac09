"""How many jobs a caller may make: a rate, and a number at once.

Only making jobs counts. Looking at jobs, health and figures costs no device time; what bounds it is
the server's own limits on bodies and connections.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from orchestrator_example.gateway.errors import TooManyRequests
from orchestrator_example.gateway.keys import Caller

UNKNOWN_JOB_SECONDS: Final = 10.0
"""How long a job is thought to take before the first of a caller has ended."""
WEIGHT_OF_LATEST: Final = 0.3
"""How much the latest job counts in the average of how long jobs take."""


@dataclass(slots=True)
class _Usage:
    """What one caller has used: tokens left at a moment, and since when each of its jobs runs."""

    tokens: float
    at: float
    running: dict[int, float] = field(default_factory=dict)
    job_seconds: float = UNKNOWN_JOB_SECONDS


class Lease(AbstractContextManager["Lease"]):
    """A place among the caller's jobs, held until released; releasing twice is harmless."""

    def __init__(self, release: Callable[[], None]) -> None:
        self.release = release

    def __exit__(self, *_: object) -> None:
        self.release()


class Limits:
    """Lets jobs in, caller by caller; `clock` gives seconds that never go back.

    It remembers one small record a caller, and callers are those of the keys file.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._usage: dict[str, _Usage] = {}
        self._entered = 0

    def enter(self, caller: Caller) -> Lease:
        """Let a job in, to be released when it ends. Raises TooManyRequests, and counts nothing."""
        now = self._clock()
        usage = self._usage.setdefault(caller.name, _Usage(_burst(caller), now))
        usage.tokens, usage.at = _refilled(usage, caller, now), now
        _check_concurrency(usage, caller, now)
        _check_rate(usage, caller)
        if caller.requests_per_minute is not None:
            usage.tokens -= 1.0
        self._entered += 1
        number = self._entered
        usage.running[number] = now
        return Lease(lambda: self._release(usage, number))

    def _release(self, usage: _Usage, number: int) -> None:
        started = usage.running.pop(number, None)
        if started is not None:
            lasted = self._clock() - started
            usage.job_seconds += WEIGHT_OF_LATEST * (lasted - usage.job_seconds)


def _burst(caller: Caller) -> float:
    """Say how many jobs may come at once after a pause: what a minute allows, and at least one."""
    return float(caller.burst or max(ceil(caller.requests_per_minute or 1.0), 1))


def _refilled(usage: _Usage, caller: Caller, now: float) -> float:
    if caller.requests_per_minute is None:
        return _burst(caller)
    gained = (now - usage.at) * caller.requests_per_minute / 60.0
    return min(usage.tokens + gained, _burst(caller))


def _check_concurrency(usage: _Usage, caller: Caller, now: float) -> None:
    if caller.concurrent is None or len(usage.running) < caller.concurrent:
        return
    # The oldest job ends next, as far as one can tell.
    left = usage.job_seconds - (now - min(usage.running.values()))
    raise TooManyRequests(
        f"{caller.name} has {len(usage.running)} jobs on their way and may have "
        f"{caller.concurrent}; wait for one to end, or cancel one",
        max(left, 1.0),
    )


def _check_rate(usage: _Usage, caller: Caller) -> None:
    if caller.requests_per_minute is None or usage.tokens >= 1.0:
        return
    seconds = (1.0 - usage.tokens) * 60.0 / caller.requests_per_minute
    raise TooManyRequests(
        f"{caller.name} may begin {caller.requests_per_minute:g} jobs a minute; "
        f"the next one in {seconds:.1f} seconds",
        seconds,
    )
