"""Read, replay and remove the dead letters of a service.

A letter is removed after the broker confirmed what replaces it, never before: what dies in between
leaves a second copy, which is the same job.
"""

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from typing import Final

from contracts.topology import (
    DEAD_DELIVERY_LIMIT,
    Topology,
    dead_queue,
    service_topology,
)
from node.dead_letters.holding import Hand, Keep, ask_depth, every_letter
from node.dead_letters.letter import DeadLetter, Selection
from node.dead_letters.replaying import Replayed, Replaying
from node.errors import SetupError, TopologyMismatch
from node.ports import Broker, Clock, IncomingMessage

OTHER_LIMIT: Final = "inequivalent arg 'x-delivery-limit'"
"""How RabbitMQ refuses to declare a queue that has another delivery limit."""


class DeadLetterBox:
    """The dead letters of one service."""

    def __init__(self, broker: Broker, service: str, clock: Clock) -> None:
        self._broker = broker
        self._service = service
        self._clock = clock
        self._queue = dead_queue(service)

    async def check(self) -> str:
        """Say what speaks against looking; empty when nothing does.

        Raises SetupError when there is no queue, or when a few looks would lose its letters.
        """
        try:
            await ask_depth(self._broker, self._queue)
        except TopologyMismatch as error:
            raise SetupError(_no_queue(self._service, self._queue, error)) from error
        declared = [q for q in service_topology(self._service).queues if q.name == self._queue]
        try:
            # Declaring what is there compares its arguments, which AMQP does not tell otherwise.
            await self._broker.apply(Topology((), tuple(declared), ()))
        except TopologyMismatch as error:
            if OTHER_LIMIT in str(error):
                raise SetupError(_other_limit(self._service, self._queue)) from error
            return f"cannot tell how often {self._queue} may be looked at: {error}"
        return ""

    async def letters(self) -> list[DeadLetter]:
        """Look at every letter, oldest first."""
        async with self._holding(lambda _: False) as hand:
            return [held.letter for held in hand.letters()]

    async def find(self, job_id: str) -> list[tuple[DeadLetter, IncomingMessage]]:
        """Read the letters of one job in full."""
        async with self._holding(lambda letter: letter.job_id == job_id) as hand:
            found = [held for held in hand.letters() if held.letter.job_id == job_id]
            return [(held.letter, held.message) for held in found]

    async def replay(self, selection: Selection, *, drop_deadline: bool) -> list[Replayed]:
        """Let jobs run again; what cannot be replayed stays, and says why."""
        async with self._holding(selection.matches) as hand:
            replaying = Replaying(
                self._service,
                self._broker.outbox,
                hand,
                now=self._clock.time(),
                drop_deadline=drop_deadline,
            )
            chosen = [held for held in hand.letters() if selection.matches(held.letter)]
            return await replaying.run(chosen)

    async def remove(self, letters: Collection[DeadLetter]) -> int:
        """Remove exactly these letters, not what came since; returns how many were there."""
        keys = {letter.key for letter in letters}
        async with self._holding(lambda _: False) as hand:
            chosen = [held for held in hand.letters() if held.letter.key in keys]
            return sum([await hand.remove(held) for held in chosen])

    def _holding(self, keep: Keep) -> AbstractAsyncContextManager[Hand]:
        return every_letter(self._broker, self._queue, keep)


def _no_queue(service: str, queue: str, error: TopologyMismatch) -> str:
    return (
        f"there is no queue {queue} ({error}); declare it: "
        f"text2image-node topology apply --service {service}"
    )


def _other_limit(service: str, queue: str) -> str:
    return (
        f"{queue} was declared without x-delivery-limit={DEAD_DELIVERY_LIMIT}, and looking counts "
        "as a delivery: RabbitMQ 4 drops a letter at the 21st look. Move its letters to another "
        "queue, delete it, declare it anew (text2image-node topology apply --service "
        f"{service}), and move them back"
    )
