"""One thread that does all the work of a device.

A model that is built in one thread and run in another is 1.2 to 1.3 times slower on a CPU: every
thread that calls torch has an OpenMP team of its own, and the teams share the cores. So one
thread imports torch, loads, warms up and runs, and no other ever calls a torch operation.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Final, ParamSpec, TypeVar

ONE_LOAD_AT_A_TIME: Final = threading.Lock()
"""Held while a model is built. transformers and diffusers build on the meta device by switches of
the whole process: of two models that two threads build at once, one is left without weights."""

P = ParamSpec("P")
R = TypeVar("R")


class InferenceThread:
    """Runs calls one after the other, in the order in which they came.

    It is a daemon: a process that ends does not wait for a download or a denoising loop.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function in the thread and return, or raise, what it does.

        Cancelling the await takes the call back when it has not begun; one that runs goes on.
        Raises RuntimeError after `close`: nobody would ever answer.
        """
        if self._closed:
            raise RuntimeError(f"the {self._name} thread is closed")
        future: Future[R] = Future()
        self._calls.put(partial(_settle, future, partial(function, *args, **kwargs)))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the thread once the calls that it has are done; does not wait for that."""
        self._closed = True
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            # The last call holds its arguments and result: tensors, perhaps.
            del call


def _settle(future: Future[R], call: Callable[[], R]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - carried to who awaits the future
        future.set_exception(error)
    else:
        future.set_result(result)
