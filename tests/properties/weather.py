"""When things go wrong: at awaits that are counted, never by chance, so that they happen again."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tests.fakes import Fault
from tests.properties.scenarios import KillAtAwait, Trouble


class Party(Protocol):
    """Somebody with connections to the broker, who may die."""

    name: str
    mortal: bool
    dead: bool

    def kill(self) -> None:
        """End at once; nothing that is awaited then goes on."""

    async def thawed(self) -> None:
        """Wait while the party is stopped."""


@dataclass(slots=True)
class _Due:
    fault: Fault | None
    """None: the process is killed."""
    skip: int
    times: int = 1


class Weather:
    """Decides at every await of every party what goes wrong there, and how long it takes."""

    def __init__(self, rhythm: Sequence[int]) -> None:
        self._rhythm = itertools.cycle(rhythm)
        self._due: list[_Due] = []
        self._broker_back_at = 0.0
        self.happened: Counter[Fault] = Counter()

    def expect(self, trouble: Trouble | KillAtAwait) -> None:
        """Let something go wrong from now on."""
        if isinstance(trouble, KillAtAwait):
            self._due.append(_Due(None, trouble.skip))
        else:
            self._due.append(_Due(trouble.fault, trouble.skip, trouble.times))

    def broker_away(self, seconds: float) -> None:
        """Let nothing be published for so long."""
        back_at = asyncio.get_running_loop().time() + seconds
        self._broker_back_at = max(self._broker_back_at, back_at)

    def clear_up(self) -> None:
        """Let nothing go wrong any more."""
        self._due.clear()
        self._broker_back_at = 0.0

    async def at(self, party: Party, *possible: Fault) -> Fault | None:
        """Take some turns of the loop, then say what goes wrong; implements `fakes.Inject`."""
        for _ in range(next(self._rhythm)):
            await asyncio.sleep(0)
        await party.thawed()
        if Fault.NOT_PUBLISHED in possible and self._broker_is_away():
            await asyncio.sleep(1.0)
            await self._unless_dead(party)
            return Fault.NOT_PUBLISHED if self._broker_is_away() else None
        due = self._next(party, possible)
        if due is not None and due.fault is None:
            party.kill()
        await self._unless_dead(party)
        if due is None or due.fault is None:
            return None
        self.happened[due.fault] += 1
        return due.fault

    async def _unless_dead(self, party: Party) -> None:
        if party.dead:
            # Tasks that were just created must begin, or they warn that they never did.
            await asyncio.sleep(0)
            raise asyncio.CancelledError

    def _broker_is_away(self) -> bool:
        return asyncio.get_running_loop().time() < self._broker_back_at

    def _next(self, party: Party, possible: Sequence[Fault]) -> _Due | None:
        """Count this await, and find what is due at it."""
        chosen: _Due | None = None
        for due in self._due:
            applies = party.mortal if due.fault is None else due.fault in possible
            if applies and due.skip > 0:
                due.skip -= 1
            elif applies and chosen is None:
                chosen = due
        if chosen is not None:
            chosen.times -= 1
            if chosen.times == 0:
                self._due.remove(chosen)
        return chosen
