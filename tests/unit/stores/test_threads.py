"""Calls that hang keep their threads, and nothing else."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from node.stores.threads import StoreThreads
from tests.harness import until


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """Calls wait for it; in the end they may go."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_call_returns_or_raises_what_it_does() -> None:
    threads = StoreThreads()
    assert await threads.run(lambda: 1 + 1, 10.0) == 2
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0, 10.0)


async def test_a_call_that_hangs_is_given_up(hanging: threading.Event) -> None:
    threads = StoreThreads()
    with pytest.raises(TimeoutError):
        await threads.run(hanging.wait, 0.05)
    assert await threads.run(lambda: "others go on", 10.0) == "others go on"


async def test_calls_that_hang_are_bounded_and_their_places_come_back(
    hanging: threading.Event,
) -> None:
    threads = StoreThreads(width=2)
    begun: list[int] = []

    def hang(n: int) -> None:
        begun.append(n)
        hanging.wait()

    hung = [threads.run(lambda n=n: hang(n), 0.2) for n in range(5)]
    ends = await asyncio.gather(*hung, return_exceptions=True)
    assert [type(end) for end in ends] == [TimeoutError] * 5
    assert len(begun) == 2
    hanging.set()
    assert await threads.run(lambda: "free", 10.0) == "free"
    assert len(begun) == 2, "calls that got no thread in time are never made"


async def test_no_more_calls_than_places_run_at_once() -> None:
    threads = StoreThreads(width=2)
    both, third = threading.Barrier(3), threading.Event()
    calls = [asyncio.create_task(threads.run(lambda: both.wait(10), 10.0)) for _ in range(2)]
    waiting = asyncio.create_task(threads.run(third.set, 10.0))
    await until(lambda: both.n_waiting == 2)
    assert not third.is_set()
    await asyncio.to_thread(both.wait, 10)
    await asyncio.gather(*calls, waiting)
    assert third.is_set()


def test_a_process_ends_although_a_call_hangs() -> None:
    program = (
        "import asyncio, threading\n"
        "from node.stores.threads import StoreThreads\n"
        "async def main():\n"
        "    try:\n"
        "        await StoreThreads().run(threading.Event().wait, 0.05)\n"
        "    except TimeoutError:\n"
        "        print('given up')\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"given up\n", b"")
