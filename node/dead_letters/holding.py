"""Hold every dead letter for a moment: nobody else gets one until it is given back.

A quorum queue shows a message by delivering it only. So a look takes all letters, without acking
them, and gives them back in their order; the queue's `x-delivery-limit` leaves room for that.
Two looks at the same time would each see a part, so they take turns: a look counts only if its
consumer was the only one.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import structlog

from node.dead_letters.letter import DeadLetter, oldest_first, read_letter
from node.errors import BrokerUnavailable, SetupError
from node.ports import Broker, Delivery, Inbox, IncomingMessage, QueueDepth
from node.tasks import running

PREFETCH_COUNT: Final = 65_535
"""The most there is; 0 (no bound) means 2,000 on a quorum queue."""
QUIET_SECONDS: Final = 1.0
"""So long nothing comes before what is in hand counts as all there is."""
STALLED_SECONDS: Final = 15.0
TURN_SECONDS: Final = 30.0
ASK_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 0.2

Keep = Callable[[DeadLetter], bool]
"""Says of which letters the body is needed; those of the others are not kept in memory."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HeldLetter:
    """A letter in hand; `message` has its body only where it was asked for."""

    letter: DeadLetter
    delivery: Delivery

    @property
    def message(self) -> IncomingMessage:
        return self.delivery.message


class Hand:
    """The letters in hand. What is not removed goes back.

    State shared between tasks: `_held` is filled by `read` and emptied by `remove`.
    """

    def __init__(self, inbox: Inbox, keep: Keep) -> None:
        self._inbox = inbox
        self._keep = keep
        self._held: dict[int, HeldLetter] = {}
        self._generation = 0
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()

    def letters(self) -> list[HeldLetter]:
        """Return what is in hand, oldest first."""
        return sorted(self._held.values(), key=lambda held: oldest_first(held.letter))

    async def remove(self, held: HeldLetter) -> bool:
        """Take a letter out of the queue for good; False when the broker has it back already."""
        if self._held.pop(held.delivery.tag, None) is None:
            return False
        return await self._inbox.ack(held.delivery)

    async def read(self) -> None:
        """Take letters in until consuming stops."""
        async for delivery in self._inbox:
            if delivery.generation != self._generation:
                # The connection was lost: the letters went back, and come again.
                self._held.clear()
                self._generation = delivery.generation
            self._take(delivery)
            self._changed.set()
        self._ended.set()

    def count(self) -> int:
        """Count what is in hand."""
        return len(self._held)

    async def holds(self, count: int) -> bool:
        """Wait until so many are in hand; False once no further one came for a while."""
        while len(self._held) < count:
            self._changed.clear()
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                return False
        return True

    async def give_back(self) -> None:
        """Stop consuming, and give everything back in the order in which it came."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await self._inbox.stop_consuming()
                await self._ended.wait()
                for held in self._held.values():
                    await self._inbox.requeue(held.delivery)
        except TimeoutError:
            # The end of the channel gives them back as well.
            log.warning("dead_letters.not_given_back", count=len(self._held))

    def _take(self, delivery: Delivery) -> None:
        letter = read_letter(delivery.message)
        if not self._keep(letter):
            delivery = replace(delivery, message=replace(delivery.message, body=b""))
        self._held[delivery.tag] = HeldLetter(letter, delivery)


@asynccontextmanager
async def every_letter(broker: Broker, queue: str, keep: Keep) -> AsyncIterator[Hand]:
    """Hold every letter that was in the queue when its turn came.

    Raises SetupError when others keep consuming the queue, BrokerUnavailable when the broker does
    not hand the letters out, TopologyMismatch when there is no such queue.
    """
    async with AsyncExitStack() as stack:
        yield await _hold_in_turn(broker, queue, keep, stack)


async def _hold_in_turn(broker: Broker, queue: str, keep: Keep, stack: AsyncExitStack) -> Hand:
    give_up_at = asyncio.get_running_loop().time() + TURN_SECONDS
    while asyncio.get_running_loop().time() < give_up_at:
        depth = await ask_depth(broker, queue)
        if depth.consumers == 0:
            async with AsyncExitStack() as turn:
                hand = await turn.enter_async_context(_holding(broker, queue, keep))
                if await _has_all(broker, queue, hand, depth.messages):
                    stack.push_async_exit(turn.pop_all())
                    return hand
        await asyncio.sleep(random.uniform(0.5, 1.5) * PAUSE_SECONDS)
    raise SetupError(
        f"somebody else reads {queue} all the time, and holds or takes its letters; "
        "stop them, or try again once they are done"
    )


@asynccontextmanager
async def _holding(broker: Broker, queue: str, keep: Keep) -> AsyncIterator[Hand]:
    inbox = broker.inbox([queue], PREFETCH_COUNT)
    hand = Hand(inbox, keep)
    async with running(inbox=inbox.run(), reader=hand.read()):
        try:
            yield hand
        finally:
            await hand.give_back()


async def _has_all(broker: Broker, queue: str, hand: Hand, count: int) -> bool:
    """Wait until all letters are in hand; False when this cannot be told, or others take some."""
    quiet_seconds = 0.0
    while quiet_seconds < STALLED_SECONDS:
        before = hand.count()
        # A busy queue says that it is empty and has no consumer: then silence must confirm it.
        reached = await hand.holds(min(max(count, 1), PREFETCH_COUNT))
        depth = await ask_depth(broker, queue)
        if depth.consumers > 1:
            return False
        if reached:
            return count > 0
        # Fewer than there were: the others expired meanwhile.
        if depth == QueueDepth(messages=0, consumers=1):
            return True
        quiet_seconds = 0.0 if hand.count() > before else quiet_seconds + QUIET_SECONDS
    raise BrokerUnavailable(
        f"the broker does not hand out the {count} message(s) of {queue}; may this user read it?"
    )


async def ask_depth(broker: Broker, queue: str) -> QueueDepth:
    """Ask how full a queue is, with a bound."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            return await broker.depth(queue)
    except TimeoutError:
        raise BrokerUnavailable(f"the broker does not say how full {queue} is") from None
