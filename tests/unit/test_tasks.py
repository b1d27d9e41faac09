"""Background tasks live exactly as long as their context, and their failure ends it."""

import asyncio

import pytest

from node.tasks import Crew, running


class Task:
    """Runs until cancelled; what happened to it is written down."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended = False

    async def run(self) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.ended = True


async def fails(after: asyncio.Event | None = None) -> None:
    if after is not None:
        await after.wait()
    raise ConnectionError("the task failed")


async def test_tasks_run_inside_and_are_awaited_at_the_end() -> None:
    one, two = Task(), Task()
    async with running(one=one.run(), two=two.run()):
        await asyncio.gather(one.started.wait(), two.started.wait())
        assert not one.ended
    assert one.ended
    assert two.ended


async def test_a_task_that_fails_ends_the_body_and_its_error_is_raised() -> None:
    other = Task()
    with pytest.raises(ConnectionError, match="the task failed"):
        async with running(other=other.run(), failing=fails(other.started)):
            await asyncio.Event().wait()
    assert other.ended


async def test_after_a_failure_the_surrounding_code_is_not_cancelled() -> None:
    with pytest.raises(ConnectionError):
        async with running(failing=fails()):
            await asyncio.Event().wait()
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)


async def test_a_task_that_fails_before_the_body_waits_is_not_missed() -> None:
    reached_the_end = False

    async def body() -> None:
        nonlocal reached_the_end
        async with running(failing=fails()):
            for _ in range(5):
                await asyncio.sleep(0)
            reached_the_end = True

    with pytest.raises(ConnectionError):
        await body()
    assert not reached_the_end


async def test_a_task_that_ends_ends_nothing() -> None:
    done = asyncio.Event()

    async def short() -> None:
        done.set()

    async with running(short=short()):
        await done.wait()
        await asyncio.sleep(0)


async def test_an_error_of_the_body_passes_and_ends_the_tasks() -> None:
    task = Task()

    async def body() -> None:
        async with running(task=task.run()):
            await task.started.wait()
            raise ValueError("of the body")

    with pytest.raises(ValueError, match="of the body"):
        await body()
    assert task.ended


async def test_a_cancelled_body_stays_cancelled() -> None:
    task = Task()

    async def body() -> None:
        async with running(task=task.run()):
            await asyncio.Event().wait()

    outer = asyncio.create_task(body())
    await task.started.wait()
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert task.ended


async def test_a_timeout_around_the_context_is_a_timeout() -> None:
    task = Task()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), running(task=task.run()):
            await asyncio.Event().wait()
    assert task.ended


async def test_the_inner_failure_is_raised_through_nested_contexts() -> None:
    outer = Task()
    with pytest.raises(ConnectionError):
        async with running(outer=outer.run()), running(failing=fails(outer.started)):
            await asyncio.Event().wait()
    assert outer.ended


async def test_the_outer_failure_ends_nested_contexts() -> None:
    inner = Task()
    with pytest.raises(ConnectionError):
        async with running(failing=fails(inner.started)), running(inner=inner.run()):
            await asyncio.Event().wait()
    assert inner.ended


async def test_a_background_task_that_a_library_cancels_ends_the_body() -> None:
    waiting = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await waiting

    async def body() -> None:
        async with running(deaf=wait()):
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="deaf was cancelled from outside"):
        await body()


async def test_a_crew_is_done_when_all_of_its_tasks_are() -> None:
    release = asyncio.Event()
    ended = []

    async def work(name: str) -> None:
        await release.wait()
        ended.append(name)

    async with Crew() as crew:
        crew.start(work("a"))
        crew.spawn(work("b"))
        release.set()
    assert sorted(ended) == ["a", "b"]


async def test_a_spawned_task_that_fails_harms_no_other() -> None:
    other = asyncio.Event()

    async def succeeds() -> None:
        other.set()

    async with Crew() as crew:
        crew.spawn(fails())
        crew.spawn(succeeds())
    assert other.is_set()


async def test_a_started_task_that_fails_ends_the_crew() -> None:
    task = Task()

    async def work() -> None:
        async with Crew() as crew:
            crew.start(task.run())
            await task.started.wait()
            crew.start(fails())

    with pytest.raises(ExceptionGroup) as raised:
        await work()
    assert raised.group_contains(ConnectionError)
    assert task.ended


async def test_an_abandoned_crew_ends_at_once() -> None:
    task = Task()
    async with Crew() as crew:
        crew.spawn(task.run())
        await task.started.wait()
        crew.abandon()
    assert task.ended
