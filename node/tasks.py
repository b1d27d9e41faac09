"""Background tasks with a lifetime: started together, cancelled and awaited together."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

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
        if not task.cancelled() and (error := task.exception()) is not None:
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
