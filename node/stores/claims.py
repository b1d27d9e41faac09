"""Which node works on which job: claims with epochs, kept alive by a beat.

`claim-<n>` is created once, by one node: epoch n of the job. Its owner rewrites it with a higher
beat for as long as it lives. Whoever sees the same bytes for a whole lease, by its own clock (two
machines' clocks are never compared), or a claim that was released, creates epoch n + 1. A node
that finds a higher epoch than its own has lost the job.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from node.errors import StoreUnavailable
from node.stores.objects import Objects
from node.stores.records import Claim

BEATS_PER_LEASE: Final = 3
MAX_WATCHED: Final = 10_000
"""Claims of other nodes that are remembered; forgetting one only lengthens its lease."""

_NAME: Final = re.compile(r"claim-([0-9]+)")

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Held:
    """A claim of this node; `writing` keeps a late beat from undoing its release."""

    folder: str
    epoch: int
    beat: int
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class _Watched:
    """A claim of another node, and since when (monotonic seconds) it has not changed."""

    epoch: int
    data: bytes
    since: float


class Claims:
    """The claims of one node, `owner`; folders are given by the caller, one a job."""

    def __init__(
        self, objects: Objects, owner: str, lease_seconds: float, monotonic: Callable[[], float]
    ) -> None:
        self._objects = objects
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._monotonic = monotonic
        # Changed by `claim` and `release` for their caller, and by `run` when a claim was lost.
        self._held: dict[str, _Held] = {}
        self._watched: OrderedDict[str, _Watched] = OrderedDict()
        self._away = False

    async def run(self) -> None:
        """Let every claim beat until cancelled."""
        while True:
            await asyncio.sleep(self._lease_seconds / BEATS_PER_LEASE)
            beats = [self._beat(held) for held in self._held.values()]
            came = await asyncio.gather(*beats)
            self._away = not all(came)

    async def claim(self, folder: str) -> bool:
        """Take a job. Raises StoreUnavailable."""
        # Most jobs are new; one that is watched is not, and is asked for again and again.
        if folder not in self._watched and await self._take(folder, 1):
            return True
        epoch, data = await self._latest(folder)
        claim = self._read(folder, epoch, data)
        if claim is not None and claim.owner == self._owner and not claim.released:
            self._hold(folder, epoch, claim.beat)
            return True
        if claim is None or claim.released or self._is_silent(folder, epoch, data):
            return await self._take(folder, epoch + 1)
        return False

    async def release(self, folder: str) -> None:
        """Give a job up; one that was not taken is none of ours. Raises StoreUnavailable."""
        held = self._held.pop(folder, None)
        if held is not None:
            async with held.writing:
                claim = Claim(self._owner, held.beat + 1, released=True)
                await self._objects.write(_path(folder, held.epoch), claim.encode())

    async def _take(self, folder: str, epoch: int) -> bool:
        """Create an epoch; of all the nodes that try, one does."""
        if not await self._objects.create(_path(folder, epoch), Claim(self._owner).encode()):
            return False
        self._hold(folder, epoch, 0)
        if epoch > 1:
            log.info("claim.taken_over", folder=folder, epoch=epoch)
        return True

    def _hold(self, folder: str, epoch: int, beat: int) -> None:
        self._watched.pop(folder, None)
        held = self._held.get(folder)
        if held is None or held.epoch != epoch:
            self._held[folder] = _Held(folder, epoch, beat)

    async def _latest(self, folder: str) -> tuple[int, bytes]:
        epoch = await self._last_epoch(folder)
        return epoch, await self._objects.read(_path(folder, epoch)) or b""

    async def _last_epoch(self, folder: str) -> int:
        names = (_NAME.fullmatch(name) for name in await self._objects.names(folder))
        return max((int(match[1]) for match in names if match), default=0)

    def _read(self, folder: str, epoch: int, data: bytes) -> Claim | None:
        try:
            return Claim.decode(data)
        except ValueError as error:
            log.warning("claim.unreadable", folder=folder, epoch=epoch, reason=str(error))
            return None

    def _is_silent(self, folder: str, epoch: int, data: bytes) -> bool:
        now = self._monotonic()
        seen = self._watched.get(folder)
        if seen is None or (seen.epoch, seen.data) != (epoch, data):
            self._watched[folder] = _Watched(epoch, data, now)
            while len(self._watched) > MAX_WATCHED:
                self._watched.popitem(last=False)
            return False
        return now - seen.since >= self._lease_seconds

    async def _beat(self, held: _Held) -> bool:
        """Show that this node lives; False when the store did not answer."""
        try:
            async with held.writing:
                await self._beat_or_lose(held)
        except StoreUnavailable as error:
            if not self._away:
                log.info("claim.not_renewed", folder=held.folder, reason=str(error))
                self._away = True
            return False
        return True

    async def _beat_or_lose(self, held: _Held) -> None:
        if self._held.get(held.folder) is not held:
            return
        if await self._last_epoch(held.folder) > held.epoch:
            log.warning("claim.lost", folder=held.folder, epoch=held.epoch)
            self._held.pop(held.folder, None)
            return
        held.beat += 1
        claim = Claim(self._owner, held.beat)
        await self._objects.write(_path(held.folder, held.epoch), claim.encode())


def _path(folder: str, epoch: int) -> str:
    return f"{folder}/claim-{epoch}"
