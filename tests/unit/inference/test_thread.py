"""One thread, one call after the other."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from node.inference.thread import InferenceThread


@pytest.fixture
def thread() -> Iterator[InferenceThread]:
    made = InferenceThread("worker")
    yield made
    made.close()


async def test_results_and_arguments_go_through(thread: InferenceThread) -> None:
    assert await thread.run(divmod, 7, 2) == (3, 1)
    assert await thread.run(sorted, [1, 2], reverse=True) == [2, 1]


async def test_calls_run_in_the_order_in_which_they_came(thread: InferenceThread) -> None:
    seen: list[int] = []
    await asyncio.gather(*(thread.run(seen.append, number) for number in range(50)))
    assert seen == list(range(50))


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
async def test_what_is_raised_is_raised_to_who_awaits(
    thread: InferenceThread, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await _carried(thread.run(fail))
    assert raised.value is error
    assert await thread.run(int, "4") == 4


async def _carried(run):
    # SystemExit in a task would end the loop; here it is awaited directly.
    return await run


async def test_every_call_has_the_same_thread_and_it_is_a_daemon(thread: InferenceThread) -> None:
    threads = [await thread.run(threading.current_thread) for _ in range(3)]
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon
    assert threads[0].name == "worker"


async def test_a_cancelled_call_that_has_not_begun_never_runs(thread: InferenceThread) -> None:
    gate, began, seen = threading.Event(), threading.Event(), []

    def block() -> None:
        began.set()
        assert gate.wait(30)

    running = asyncio.create_task(thread.run(block))
    await asyncio.to_thread(began.wait, 30)
    queued = asyncio.create_task(thread.run(seen.append, 1))
    await asyncio.sleep(0)
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    gate.set()
    await running
    await thread.run(seen.append, 2)
    assert seen == [2]


async def test_cancelling_the_await_lets_a_call_that_runs_go_on(thread: InferenceThread) -> None:
    gate, began, seen = threading.Event(), threading.Event(), []

    def block() -> None:
        began.set()
        assert gate.wait(30)
        seen.append("finished")

    running = asyncio.create_task(thread.run(block))
    await asyncio.to_thread(began.wait, 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    gate.set()
    await thread.run(int)
    assert seen == ["finished"]


async def test_closing_ends_the_thread_once_its_calls_are_done() -> None:
    thread = InferenceThread("short")
    worker = await thread.run(threading.current_thread)
    last = asyncio.create_task(thread.run(int, "5"))
    await asyncio.sleep(0)
    thread.close()
    assert await last == 5
    await asyncio.to_thread(worker.join, 30)
    assert not worker.is_alive()


async def test_a_call_after_closing_is_refused_and_not_awaited_for_ever() -> None:
    thread = InferenceThread("short")
    thread.close()
    thread.close()
    with pytest.raises(RuntimeError, match="short thread is closed"):
        await asyncio.wait_for(thread.run(int), 30)


async def test_nothing_starts_before_the_first_call() -> None:
    before = threading.active_count()
    thread = InferenceThread("never")
    thread.close()
    assert threading.active_count() == before
