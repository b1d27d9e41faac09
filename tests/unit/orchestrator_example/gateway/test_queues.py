"""Queues are looked at now and then, and only while jobs of ours wait in them."""

from types import SimpleNamespace
from typing import Any

import pytest

from contracts.text2image import TEXT2IMAGE, Text2ImageRequest
from node.errors import BrokerUnavailable
from node.ports import QueueDepth
from node.tasks import running
from orchestrator_example.gateway import queues as queues_module
from orchestrator_example.gateway.job import Job
from orchestrator_example.gateway.queues import Queues
from tests.harness import until
from tests.unit.orchestrator_example.gateway.told import STARTED, job


class Depths:
    """A broker that says how much waits in its queues, and counts who asks."""

    def __init__(self) -> None:
        self.depths: dict[str, int] = {}
        self.asked: list[str] = []
        self.is_away = False
        self.is_connected = True

    async def depth(self, queue: str) -> QueueDepth:
        self.asked.append(queue)
        if self.is_away:
            raise BrokerUnavailable("away")
        return QueueDepth(self.depths.get(queue, 0), 1)

    def connected(self) -> bool:
        return self.is_connected


@pytest.fixture
def depths() -> Depths:
    return Depths()


@pytest.fixture
def queues(depths: Depths) -> Queues:
    broker: Any = depths
    directory: Any = SimpleNamespace(services=list)
    return Queues(broker, directory)


def naming(model: str) -> Job:
    return Job(TEXT2IMAGE, Text2ImageRequest(prompt="a", model=model), "somebody")


def place(queues: Queues, waiting: Job) -> int | None:
    return queues.outlook(waiting)[0]


async def test_a_job_is_behind_what_waits_and_behind_those_before_it(
    queues: Queues, depths: Depths
) -> None:
    depths.depths[TEXT2IMAGE] = 2
    jobs = [job() for _ in range(3)]
    for each in jobs:
        await queues.join(each)
    assert [place(queues, each) for each in jobs] == [2, 3, 4]


async def test_many_that_come_at_once_make_it_look_once(queues: Queues, depths: Depths) -> None:
    for _ in range(50):
        await queues.join(job())
    assert depths.asked == [TEXT2IMAGE]


async def test_a_job_that_starts_leaves_its_queue(queues: Queues) -> None:
    jobs = [job() for _ in range(2)]
    for each in jobs:
        await queues.join(each)
    queues.note(jobs[0])
    assert place(queues, jobs[1]) == 1
    jobs[0].tell(STARTED)
    queues.note(jobs[0])
    assert [place(queues, each) for each in jobs] == [None, 0]


@pytest.mark.parametrize(
    ("waiting", "queue"),
    [
        (lambda: job(priority=9), "text2image.high"),
        (lambda: job(priority=4), "text2image"),
        (lambda: naming("org/model"), "text2image.model.org-model"),
    ],
)
async def test_each_job_waits_in_the_queue_that_it_is_sent_to(
    queues: Queues, depths: Depths, waiting: Any, queue: str
) -> None:
    await queues.join(waiting())
    (asked,) = depths.asked
    assert asked.startswith(queue)


async def test_without_an_answer_places_are_counted_all_the_same(
    queues: Queues, depths: Depths
) -> None:
    depths.is_away = True
    jobs = [job() for _ in range(2)]
    for each in jobs:
        await queues.join(each)
    assert [place(queues, each) for each in jobs] == [0, 1]


async def test_a_broker_that_is_away_is_not_asked(queues: Queues, depths: Depths) -> None:
    depths.is_connected = False
    await queues.join(job())
    assert depths.asked == []


async def test_it_looks_again_while_jobs_wait_and_never_otherwise(
    queues: Queues, depths: Depths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues_module, "LOOK_SECONDS", 0.01)
    waiting = job()
    await queues.join(waiting)
    async with running(look=queues.run()):
        await until(lambda: len(depths.asked) > 3, "it looks again")
        queues.leave(waiting)
        seen = len(depths.asked)
        other = naming("org/other")
        await queues.join(other)
        await until(lambda: len(depths.asked) > seen + 4, "it looks at another queue")
    assert depths.asked[seen + 2 :].count(TEXT2IMAGE) == 0


async def test_queues_that_callers_made_up_are_forgotten(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues_module, "LOOK_SECONDS", 0.01)
    for number in range(20):
        refused = naming(f"made/up-{number}")
        await queues.join(refused)
        queues.leave(refused)
    async with running(look=queues.run()):
        await until(lambda: not queues._waiting, "they are forgotten")
    assert queues.outlook(naming("made/up-1")) == (None, None)
    assert not queues._waiting
