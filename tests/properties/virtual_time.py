"""Time that costs nothing: an event loop whose clock jumps to the next timer when all is done."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

R = TypeVar("R")

EPOCH: Final = 1_000_000.0
"""What Unix time is when a loop begins."""
MAX_TURNS: Final = 400_000


class NeverRests(AssertionError):
    """Something goes on without end, and time does not pass."""


class NothingLeftToDo(AssertionError):
    """Everything waits for something that will never come."""


class _JumpingSelector(selectors.DefaultSelector):
    """Says at once what is ready; where a loop would wait, its clock moves instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._turns = 0

    def select(self, timeout: float | None = None) -> Any:
        self._turns += 1
        if self._turns > MAX_TURNS:
            self._turns = 0  # what follows is the end, which takes a few more
            raise NeverRests(f"{MAX_TURNS} turns of the loop by {self.now:.3f} s")
        if timeout is None:
            raise NothingLeftToDo(f"nothing is left to do at {self.now:.3f} s")
        self.now += timeout
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop without waiting; what it does depends on nothing outside of it."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class VirtualClock:
    """The clock of the loop that runs."""

    def time(self) -> float:
        return EPOCH + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine to its end in a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
