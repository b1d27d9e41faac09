"""Every point at which a chain waits or goes on, so that a process can be made to die at one of it.

A point is a coroutine of the orchestrator that is suspended, or resumed. Product code is not
changed for it: tasks of the orchestrator are made by a task factory that steps them itself. Where
a coroutine looks again and again whether something happened, and nothing did, that is one point.
"""

import asyncio
import os
import signal
import types
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any, Final

import orchestrator_example

PACKAGE: Final = str(Path(orchestrator_example.__file__).parent)
POLL: Final = "_stopped_or_done"


class FaultPoints:
    """Counts the points of one chain, and kills this process at the one with the number `kill_at`.

    Each point is a line in the file `log`: written before the process dies.
    """

    def __init__(self, log: Path, kill_at: int) -> None:
        self._file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._kill_at = kill_at
        self._count = 0
        self._latest: tuple[str, str] = ("", "")

    def install(self) -> None:
        """Step every task of the orchestrator from now on."""
        asyncio.get_running_loop().set_task_factory(self._task)

    def _task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **given: Any
    ) -> "asyncio.Task[Any]":
        code = getattr(coroutine, "cr_code", None)
        if code is not None and code.co_filename.startswith(PACKAGE):
            coroutine = self.stepped(coroutine)
        return asyncio.Task(coroutine, loop=loop, **given)

    async def stepped(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Await a coroutine, and stop at each of its points."""
        return await self._steps(coroutine)

    @types.coroutine
    def _steps(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        resume, given = coroutine.send, None
        while True:
            try:
                awaited = resume(given)
            except StopIteration as end:
                return end.value
            self._reached(f"waits {_place(coroutine)}")
            try:
                given = yield awaited
                resume = coroutine.send
            except BaseException as error:  # a cancel is thrown in like any error
                given, resume = error, coroutine.throw
            self._reached(f"goes on {_place(coroutine)}")

    def _reached(self, point: str) -> None:
        if POLL in point and point in self._latest:
            return
        self._latest = (self._latest[-1], point)
        self._count += 1
        os.write(self._file, f"{self._count} {point}\n".encode())
        if self._count == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def _place(coroutine: Any) -> str:
    """Name the innermost line of the orchestrator in which a coroutine waits, and what for."""
    place, awaited = "?", "?"
    while getattr(coroutine, "cr_frame", None) is not None:
        code = coroutine.cr_code
        awaited = code.co_qualname
        if code.co_filename.startswith(PACKAGE):
            place = f"{Path(code.co_filename).stem}:{coroutine.cr_frame.f_lineno} {awaited}"
        coroutine = coroutine.cr_await
    return f"{place}, {awaited}"
