"""Holding every letter: what a busy, broken or shared queue says never makes a list incomplete."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import pytest

from contracts.topology import dead_queue, service_topology
from node.dead_letters import holding
from node.dead_letters.box import DeadLetterBox
from node.dead_letters.holding import every_letter
from node.dead_letters.letter import DeadLetter
from node.errors import BrokerUnavailable, SetupError
from node.ports import Delivery, OutgoingMessage, Properties, QueueDepth
from tests.fakes import InMemoryBroker, InMemoryInbox, ManualClock

QUEUE = dead_queue("text2image")
NOBODY = QueueDepth(messages=0, consumers=0)


class TalkingBroker(InMemoryBroker):
    """Says of the queue what it was told to say, then the truth; None is never to answer."""

    def __init__(self) -> None:
        super().__init__()
        self.sayings: deque[QueueDepth | None] = deque()

    async def depth(self, queue: str) -> QueueDepth:
        if not self.sayings:
            return await super().depth(queue)
        said = self.sayings.popleft()
        if said is None:
            await asyncio.Event().wait()
        assert said is not None
        return said


class TricklingInbox:
    """Hands over one letter after the other, and notes which ones it gets back."""

    def __init__(self, inbox: InMemoryInbox) -> None:
        self._inbox = inbox
        self.requeued: list[str | None] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inbox, name)

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        async for delivery in self._inbox:
            yield delivery
            await asyncio.sleep(0.005)

    async def requeue(self, delivery: Delivery) -> bool:
        self.requeued.append(delivery.message.properties.message_id)
        return await self._inbox.requeue(delivery)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "QUIET_SECONDS", 0.02)
    monkeypatch.setattr(holding, "STALLED_SECONDS", 0.1)
    monkeypatch.setattr(holding, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(holding, "TURN_SECONDS", 1.0)
    monkeypatch.setattr(holding, "ASK_SECONDS", 0.5)


@pytest.fixture
async def broker() -> TalkingBroker:
    """Three letters."""
    broker = TalkingBroker()
    await broker.apply(service_topology("text2image"))
    for n in range(3):
        properties = Properties(message_id=f"job-{n}")
        await broker.outbox.publish(OutgoingMessage("", QUEUE, b"body", properties))
    return broker


def nothing(_: DeadLetter) -> bool:
    return False


async def seen(broker: InMemoryBroker) -> list[str]:
    async with every_letter(broker, QUEUE, nothing) as hand:
        return [held.letter.job_id for held in hand.letters()]


async def test_everything_is_in_hand_and_goes_back(broker: TalkingBroker) -> None:
    async with every_letter(broker, QUEUE, nothing) as hand:
        assert hand.count() == 3
        assert await broker.depth(QUEUE) == QueueDepth(messages=0, consumers=1)
    assert await broker.depth(QUEUE) == QueueDepth(messages=3, consumers=0)


async def test_what_is_removed_does_not_go_back(broker: TalkingBroker) -> None:
    async with every_letter(broker, QUEUE, nothing) as hand:
        first, *_ = hand.letters()
        assert await hand.remove(first)
        assert not await hand.remove(first)
    assert await seen(broker) == ["job-1", "job-2"]


async def test_letters_go_back_when_the_work_on_them_fails(broker: TalkingBroker) -> None:
    with pytest.raises(SetupError):
        async with every_letter(broker, QUEUE, nothing):
            raise SetupError("what went wrong")
    assert await broker.depth(QUEUE) == QueueDepth(messages=3, consumers=0)


async def test_bodies_are_kept_only_where_they_are_needed(broker: TalkingBroker) -> None:
    async with every_letter(broker, QUEUE, lambda letter: letter.job_id == "job-1") as hand:
        bodies = [held.message.body for held in hand.letters()]
        assert bodies == [b"", b"body", b""]
        assert {held.letter.size_bytes for held in hand.letters()} == {4}


async def test_a_busy_queue_that_claims_to_be_empty_is_not_believed(broker: TalkingBroker) -> None:
    for lies in range(5):
        broker.sayings.extend([NOBODY] * lies)
        assert await seen(broker) == ["job-0", "job-1", "job-2"]


async def test_what_trickles_in_is_waited_for(broker: TalkingBroker) -> None:
    inbox = broker.inbox
    broker.inbox = lambda *given: TricklingInbox(inbox(*given))  # type: ignore[method-assign]
    broker.sayings.append(NOBODY)
    assert await seen(broker) == ["job-0", "job-1", "job-2"]


async def test_letters_are_handed_back_one_by_one_in_their_order(broker: TalkingBroker) -> None:
    # Left to the end of the channel, they would count as given up by a consumer that crashed.
    inbox = broker.inbox
    broker.inbox = lambda *given: TricklingInbox(inbox(*given))  # type: ignore[method-assign]
    async with every_letter(broker, QUEUE, nothing) as hand:
        used = hand._inbox
    assert used.requeued == ["job-0", "job-1", "job-2"]


async def test_letters_that_expire_meanwhile_are_not_waited_for(broker: TalkingBroker) -> None:
    broker.sayings.append(QueueDepth(messages=5, consumers=0))
    assert await seen(broker) == ["job-0", "job-1", "job-2"]


async def test_a_look_beside_somebody_else_does_not_count(broker: TalkingBroker) -> None:
    alone = QueueDepth(messages=3, consumers=0)
    broker.sayings.extend([alone, QueueDepth(messages=0, consumers=2)])
    assert await seen(broker) == ["job-0", "job-1", "job-2"]
    assert len(broker.inboxes) == 2


async def test_somebody_who_stays_is_told_about(broker: TalkingBroker) -> None:
    broker.sayings.extend([QueueDepth(messages=0, consumers=1)] * 1000)
    with pytest.raises(SetupError, match="somebody else reads"):
        await seen(broker)
    assert broker.inboxes == []


async def test_letters_that_never_come_are_told_about(broker: TalkingBroker) -> None:
    broker.server.queues[QUEUE].items.clear()
    broker.sayings.extend([QueueDepth(messages=3, consumers=0)] * 1000)
    with pytest.raises(BrokerUnavailable, match="may this user read it"):
        await seen(broker)


async def test_a_broker_that_does_not_answer_is_told_about(broker: TalkingBroker) -> None:
    broker.sayings.append(None)
    with pytest.raises(BrokerUnavailable, match="does not say"):
        await seen(broker)


async def test_after_a_lost_connection_every_letter_is_there_once(broker: TalkingBroker) -> None:
    async with every_letter(broker, QUEUE, nothing) as hand:
        stale, *_ = hand.letters()
        broker.inboxes[-1].lose_connection()
        assert not await hand.remove(stale)
        async with asyncio.timeout(5):
            while hand.count() < 3:
                await hand.holds(3)
        assert [held.letter.job_id for held in hand.letters()] == ["job-0", "job-1", "job-2"]
    assert await seen(broker) == ["job-0", "job-1", "job-2"]


async def test_a_letter_that_the_broker_has_back_counts_as_not_removed(
    broker: TalkingBroker,
) -> None:
    box = DeadLetterBox(broker, "text2image", ManualClock())
    meant = await box.letters()
    inbox = broker.inbox
    broker.inbox = lambda *given: _deaf(inbox(*given))  # type: ignore[method-assign]
    assert await box.remove(meant) == 0


def _deaf(inbox: object) -> object:
    async def stale(_: object) -> bool:
        return False

    inbox.ack = stale  # type: ignore[attr-defined]
    return inbox
