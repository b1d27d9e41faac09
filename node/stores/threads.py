"""Threads for calls that may hang."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Final, TypeVar

R = TypeVar("R")

WIDTH: Final = 8
"""Calls at a time; those that hang keep their place until they end."""


class StoreThreads:
    """Runs each call in a daemon thread of its own, a bounded number at a time.

    A store that stalls can use up neither the threads of the process nor hold up its end: the
    threads of an executor are joined when Python exits, these are not.
    """

    def __init__(self, width: int = WIDTH) -> None:
        self._free = asyncio.Semaphore(width)

    async def run(self, call: Callable[[], R], timeout_seconds: float) -> R:
        """Return, or raise, what the call does.

        Raises TimeoutError when it took too long, or got no thread: a call that began goes on,
        and what it does may still happen.
        """
        async with asyncio.timeout(timeout_seconds):
            await self._free.acquire()
            loop = asyncio.get_running_loop()
            future: Future[R] = Future()
            future.add_done_callback(lambda _: self._release(loop))
            threading.Thread(target=_settle, args=(future, call), name="store", daemon=True).start()
            return await asyncio.wrap_future(future)

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        # A call that hung may end after the loop that asked for it.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._free.release)


def _settle(future: Future[R], call: Callable[[], R]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - carried to who awaits the future
        future.set_exception(error)
    else:
        future.set_result(result)
