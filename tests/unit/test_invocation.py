"""A running job as its component sees it, from the event loop and from a thread."""

import asyncio
import json
import threading
from typing import Any

import pytest

from contracts.result import Status
from node.egress.events import JobEvents
from node.invocation import RunningJob
from tests.fakes import ManualClock
from tests.harness import until
from tests.unit.builders import envelope, image, job


class Offered:
    """An outbox that keeps what was offered, and by which thread."""

    def __init__(self) -> None:
        self.documents: list[dict[str, Any]] = []
        self.threads: set[int] = set()

    def offer(self, message: Any) -> None:
        self.threads.add(threading.get_ident())
        self.documents.append(json.loads(message.body))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=1000.0)


@pytest.fixture
def offered() -> Offered:
    return Offered()


def run(offered: Offered, clock: ManualClock, **given: Any) -> RunningJob:
    events = JobEvents("text2image", envelope(), offered, clock)
    return RunningJob(job(**given), events, clock)


async def test_nothing_stops_a_job_that_nobody_stops(offered: Offered, clock: ManualClock) -> None:
    running = run(offered, clock)
    assert (running.job_id, running.stop_requested()) == ("job", None)
    assert not running.handed_back


async def test_a_cancelled_job_must_stop(offered: Offered, clock: ManualClock) -> None:
    running = run(offered, clock)
    running.cancel()
    assert running.stop_requested() is Status.CANCELLED
    assert not running.handed_back


async def test_a_job_must_stop_at_its_deadline(offered: Offered, clock: ManualClock) -> None:
    running = run(offered, clock, deadline=1010.0)
    clock.now = 1009.9
    assert running.stop_requested() is None
    clock.now = 1010.0
    assert running.stop_requested() is Status.EXPIRED


async def test_a_cancel_goes_before_the_deadline(offered: Offered, clock: ManualClock) -> None:
    running = run(offered, clock, deadline=999.0)
    running.cancel()
    assert running.stop_requested() is Status.CANCELLED


async def test_a_job_that_is_handed_back_stops_and_is_marked(
    offered: Offered, clock: ManualClock
) -> None:
    running = run(offered, clock)
    running.hand_back()
    assert running.stop_requested() is Status.CANCELLED
    assert running.handed_back


@pytest.mark.parametrize("order", [["hand_back", "cancel"], ["cancel", "hand_back"]])
async def test_a_cancel_counts_more_than_a_hand_back_whichever_came_first(
    offered: Offered, clock: ManualClock, order: list[str]
) -> None:
    running = run(offered, clock)
    for each in order:
        getattr(running, each)()
    assert running.stop_requested() is Status.CANCELLED
    assert (running.cancelled, running.handed_back) == (True, False)


async def test_a_thread_reports_and_the_event_loop_publishes(
    offered: Offered, clock: ManualClock
) -> None:
    running = run(offered, clock)

    def work() -> None:
        running.inference_step(1, 2)
        running.preview(1, b"preview", "image/png")
        running.inference_step(2, 2)
        running.image(image())

    thread = threading.Thread(target=work)
    thread.start()
    await asyncio.to_thread(thread.join)
    await until(lambda: len(offered.documents) == 4, "four events")
    kinds = [each["event"] for each in offered.documents]
    assert kinds == ["progress", "preview", "progress", "image"]
    assert offered.documents[1]["b64_json"] == "cHJldmlldw=="
    assert offered.threads == {threading.get_ident()}


async def test_a_thread_sees_a_cancel_from_the_event_loop(
    offered: Offered, clock: ManualClock
) -> None:
    running = run(offered, clock)
    stepped = threading.Event()

    def denoise() -> Status | None:
        while (status := running.stop_requested()) is None:
            running.inference_step(1, 100)
            stepped.set()
        return status

    work = asyncio.create_task(asyncio.to_thread(denoise))
    await asyncio.to_thread(stepped.wait, 10)
    running.cancel()
    assert await asyncio.wait_for(work, 10) is Status.CANCELLED
