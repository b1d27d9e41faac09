"""Let the jobs of dead letters run again: publish, wait for the confirm, then remove the letter."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from contracts.failure import FailureCode
from node.dead_letters.holding import Hand, HeldLetter
from node.dead_letters.letter import DeadLetter
from node.dead_letters.replay import deadline, replay_message, why_too_late
from node.errors import MessagingError, Unroutable
from node.ports import Outbox

AT_ONCE: Final = 64
"""Confirms that are waited for at the same time."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a letter that was to be replayed; without a problem its job runs again."""

    letter: DeadLetter
    problem: str = ""


class Replaying:
    """One replay of letters in hand; once the broker refuses a request, no further one is tried.

    State shared between tasks: `_broken` is set by the first job that the broker refused.
    """

    def __init__(
        self, service: str, outbox: Outbox, hand: Hand, *, now: float, drop_deadline: bool
    ) -> None:
        self._service = service
        self._outbox = outbox
        self._hand = hand
        self._now = now
        self._drop_deadline = drop_deadline
        self._broken = ""
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self, chosen: Iterable[HeldLetter]) -> list[Replayed]:
        """Replay letters; what cannot be replayed stays in hand, and says why."""
        jobs: dict[str, list[HeldLetter]] = {}
        for held in chosen:
            jobs.setdefault(held.letter.job_id, []).append(held)
        done = await asyncio.gather(*(self._job(copies) for copies in jobs.values()))
        return [each for job in done for each in job]

    async def _job(self, copies: list[HeldLetter]) -> list[Replayed]:
        async with self._slots:
            problem = (
                self._broken
                or refusal(copies, self._now, drop_deadline=self._drop_deadline)
                or await self._publish(copies)
            )
        return [Replayed(held.letter, problem) for held in copies]

    async def _publish(self, copies: list[HeldLetter]) -> str:
        """Publish the request of one job and remove its letters; says what went wrong."""
        message = copies[-1].message
        until = None if self._drop_deadline else deadline(message)
        replays = max(held.letter.replays for held in copies) + 1
        request = replay_message(self._service, message, until, replays)
        try:
            await self._outbox.publish(request)
        except Unroutable:
            return nowhere_to_go(copies[-1].letter, request.routing_key)
        except MessagingError as error:
            self._broken = f"not tried, since another one was not taken: {error}"
            return f"{error}; replay it again, it is the same job even if it did get through"
        if all([await self._hand.remove(held) for held in copies]):
            return ""
        return "it runs again, but its letter stays: the connection was lost; purge it"


def refusal(copies: list[HeldLetter], now: float, *, drop_deadline: bool) -> str:
    """Say why a job is not to be replayed; empty when it can be."""
    if len({held.letter.sha256 for held in copies}) > 1:
        return (
            "different requests were given up under this job id, and a job is one request; "
            "choose one with --code or --older-than"
        )
    if copies[-1].letter.code == FailureCode.CONFLICT:
        return "its job id belongs to another request; submit this one again under a new id"
    if not drop_deadline and (why := why_too_late(copies[-1].message, now)):
        return f"{why}; --drop-deadline replays it without one"
    return ""


def nowhere_to_go(letter: DeadLetter, routing_key: str) -> str:
    """Say what to do about a request that no queue takes."""
    if letter.model is None:
        return f"no queue takes {routing_key}; declare it: text2image-node topology apply"
    return f"no node ever offered its model {letter.model!r}; start one, then replay it"
