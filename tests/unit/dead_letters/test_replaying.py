"""Replaying: a letter goes after its request was confirmed; what goes wrong is said."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from contracts.topology import dead_queue, service_topology
from node.dead_letters import holding
from node.dead_letters.box import DeadLetterBox
from node.dead_letters.letter import Selection
from node.errors import BrokerUnavailable, PublishRefused
from node.ports import OutgoingMessage, Properties
from tests.fakes import InMemoryBroker, ManualClock

SERVICE = "text2image"
DEAD = dead_queue(SERVICE)


class WatchedOutbox:
    """Lets a test do something just after a message was confirmed."""

    def __init__(
        self, broker: InMemoryBroker, then: Callable[[OutgoingMessage], Awaitable[None]]
    ) -> None:
        self._outbox = broker.outbox
        self._then = then

    async def publish(self, message: OutgoingMessage) -> None:
        await self._outbox.publish(message)
        await self._then(message)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "QUIET_SECONDS", 0.02)
    monkeypatch.setattr(holding, "PAUSE_SECONDS", 0.01)


@pytest.fixture
async def broker() -> InMemoryBroker:
    broker = InMemoryBroker()
    await broker.apply(service_topology(SERVICE))
    return broker


async def put_aside(broker: InMemoryBroker, count: int) -> None:
    for n in range(count):
        given = Properties(message_id=f"job-{n:03}", headers={"x-dead-code": "internal"})
        await broker.outbox.publish(OutgoingMessage("", DEAD, b'{"prompt": "x"}', given))


async def replay(broker: InMemoryBroker) -> dict[str, str]:
    box = DeadLetterBox(broker, SERVICE, ManualClock())
    done = await box.replay(Selection(), drop_deadline=False)
    return {each.letter.job_id: each.problem for each in done}


def count(broker: InMemoryBroker, queue: str) -> int:
    return len(broker.server.queues[queue].items)


async def test_the_letter_is_there_until_its_request_was_confirmed(broker: InMemoryBroker) -> None:
    unanswered: list[int] = []

    async def look(_: OutgoingMessage) -> None:
        unanswered.append(len(broker.inboxes[-1]._unanswered))

    await put_aside(broker, 1)
    broker.outbox = WatchedOutbox(broker, look)  # type: ignore[assignment]
    assert await replay(broker) == {"job-000": ""}
    assert unanswered == [1]
    assert (count(broker, SERVICE), count(broker, DEAD)) == (1, 0)


async def test_a_connection_lost_after_the_confirm_leaves_a_second_copy_and_says_so(
    broker: InMemoryBroker,
) -> None:
    async def lose(_: OutgoingMessage) -> None:
        broker.inboxes[-1].lose_connection()

    await put_aside(broker, 1)
    broker.outbox = WatchedOutbox(broker, lose)  # type: ignore[assignment]
    assert "purge" in (await replay(broker))["job-000"]
    assert (count(broker, SERVICE), count(broker, DEAD)) == (1, 1)


@pytest.mark.parametrize("fault", [BrokerUnavailable("no confirm"), PublishRefused("full")])
async def test_once_the_broker_takes_nothing_the_rest_is_not_tried(
    broker: InMemoryBroker, fault: Exception
) -> None:
    await put_aside(broker, 200)
    broker.outbox.faults.append(fault)
    problems = await replay(broker)
    assert problems["job-000"].startswith(str(fault))
    assert problems["job-199"] == f"not tried, since another one was not taken: {fault}"
    assert count(broker, DEAD) == sum(map(bool, problems.values()))
    assert count(broker, SERVICE) == 200 - count(broker, DEAD)


async def test_many_letters_are_replayed_at_once_and_each_one_once(broker: InMemoryBroker) -> None:
    at_once, most = 0, 0

    async def confirm_slowly(_: OutgoingMessage) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1

    await put_aside(broker, 300)
    broker.outbox = WatchedOutbox(broker, confirm_slowly)  # type: ignore[assignment]
    assert set((await replay(broker)).values()) == {""}
    assert 1 < most <= 64
    requests = [item.message.properties.message_id for item in broker.server.queues[SERVICE].items]
    assert sorted(requests) == [f"job-{n:03}" for n in range(300)]


async def test_an_interrupted_replay_gives_the_rest_back(broker: InMemoryBroker) -> None:
    confirmed = asyncio.Event()

    async def hang(message: OutgoingMessage) -> None:
        confirmed.set()
        await asyncio.Event().wait()

    await put_aside(broker, 3)
    broker.outbox = WatchedOutbox(broker, hang)  # type: ignore[assignment]
    replaying = asyncio.create_task(replay(broker))
    await asyncio.wait_for(confirmed.wait(), 5)
    replaying.cancel()
    await asyncio.gather(replaying, return_exceptions=True)
    assert count(broker, DEAD) == 3
