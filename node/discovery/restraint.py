"""Do a thing at a bounded rate, whatever strangers send."""

from typing import Final

import structlog

COMPLAINTS_AT_ONCE: Final = 5
COMPLAINTS_A_SECOND: Final = 0.1

log = structlog.get_logger(__name__)


class Allowance:
    """So many at once, and then so many a second; counts what it held back. Knows no clock."""

    def __init__(self, at_once: int, a_second: float) -> None:
        self._at_once = at_once
        self._a_second = a_second
        self._left = float(at_once)
        self._asked_at: float | None = None
        self._held_back = 0

    def take(self, now: float) -> bool:
        """Say whether it may be done now, and if so, count it as done."""
        if self._asked_at is not None:
            earned = (now - self._asked_at) * self._a_second
            self._left = min(self._left + earned, self._at_once)
        self._asked_at = now
        if self._left < 1.0:
            self._held_back += 1
            return False
        self._left -= 1.0
        return True

    def held_back(self) -> int:
        """Return how many times it said no since this was asked last."""
        count, self._held_back = self._held_back, 0
        return count


class Complaints:
    """Warnings in the log, with the number of those that were left out."""

    def __init__(self) -> None:
        self._allowance = Allowance(COMPLAINTS_AT_ONCE, COMPLAINTS_A_SECOND)

    def make(self, now: float, event: str, **fields: object) -> None:
        """Write a warning, unless there were too many."""
        if self._allowance.take(now):
            log.warning(event, left_out=self._allowance.held_back(), **fields)
