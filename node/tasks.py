"""Background tasks with a lifetime: none outlives the context that it was started in."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import structlog

log = structlog.get_logger(__name__)


def report_crash(task: asyncio.Task[Any]) -> None:
    """Log the failure of a task that should have run until it was cancelled."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("task.crashed", task=task.get_name(), exc_info=error)


@asynccontextmanager
async def running(**coroutines: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """Run coroutines, named by keyword, inside the context; the first failure ends it.

    A task that fails cancels the body, and its exception is raised from the context.
    """
    body = asyncio.current_task()
    assert body is not None
    tasks = [asyncio.create_task(each, name=name) for name, each in coroutines.items()]
    failed: list[BaseException] = []

    def stop_body(task: asyncio.Task[Any]) -> None:
        report_crash(task)
        if task.cancelled():
            # By a library, say: it must not go silent.
            failed.append(RuntimeError(f"the task {task.get_name()} was cancelled from outside"))
            body.cancel()
        elif (error := task.exception()) is not None:
            failed.append(error)
            body.cancel()

    for task in tasks:
        task.add_done_callback(stop_body)
    try:
        yield
    except asyncio.CancelledError:
        if failed and body.uncancel() == 0:
            raise failed[0] from None
        raise
    finally:
        for task in tasks:
            task.remove_done_callback(stop_body)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Crew:
    """Tasks that come and go; the context ends when all of them have."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._group.__aexit__(kind, error, traceback)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a task whose failure ends the whole crew."""
        task = self._group.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a task whose failure is logged, and harms no other."""
        self.start(_unharmed(coroutine))

    def abandon(self) -> None:
        """Cancel whatever is still going on."""
        if self._tasks:
            log.warning("tasks.abandoned", tasks=len(self._tasks))
        for task in self._tasks:
            task.cancel()


async def _unharmed(coroutine: Coroutine[Any, Any, Any]) -> None:
    try:
        await coroutine
    except Exception:
        log.critical("task.crashed", exc_info=True)
