"""The live table of services, as one listener sees it."""

import asyncio
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import structlog
from pydantic import TypeAdapter, ValidationError

from contracts.discovery import Announcement, Goodbye, PingReply, ServiceMetadata, ServiceQuestion
from contracts.message import JSON_CONTENT_TYPE
from contracts.topology import DISCOVERY
from node.ports import Broker, Clock, OutgoingMessage, Properties, Subscribed

log = structlog.get_logger(__name__)

MAX_GONE: Final = 1000
"""Farewells remembered, so that an announcement that comes late does not bring anyone back."""

_News: Final[TypeAdapter[Announcement | PingReply | Goodbye]] = TypeAdapter(
    Announcement | PingReply | Goodbye
)


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """One instance; `live_until` is on the listener's own monotonic clock."""

    name: str
    instance_id: str
    version: str
    metadata: ServiceMetadata
    order: tuple[int, int]
    live_until: float


@dataclass(slots=True)
class ServiceTable:
    """Who is live, by (service, instance). The highest (incarnation, seq) wins. Pure."""

    entries: dict[tuple[str, str], ServiceEntry]
    gone: dict[tuple[str, str], tuple[int, int]]

    def hear(self, news: Announcement | PingReply | Goodbye, now: float) -> None:
        """Take in one message."""
        key, order = (news.name, news.id), (news.incarnation, news.seq)
        if isinstance(news, Goodbye):
            known = self.entries.get(key)
            if known is None or known.order <= order:
                self.entries.pop(key, None)
                self.gone[key] = max(order, self.gone.get(key, order))
                if len(self.gone) > MAX_GONE:
                    del self.gone[next(iter(self.gone))]
            return
        known = self.entries.get(key)
        if self.gone.get(key, (-1, -1)) >= order or (known is not None and known.order > order):
            return
        self.gone.pop(key, None)
        self.entries[key] = ServiceEntry(
            news.name, news.id, news.version, news.metadata, order, now + news.ttl_seconds
        )

    def live(self, now: float) -> list[ServiceEntry]:
        """List live instances in a stable order, forgetting the others."""
        self.entries = {k: e for k, e in self.entries.items() if e.live_until > now}
        return [self.entries[key] for key in sorted(self.entries)]


class ServiceDirectory:
    """Listens to announcements; asks once, so that a late listener sees everybody."""

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._outbox = broker.outbox
        self._clock = clock
        self._id = f"listener-{uuid4().hex[:12]}"
        self._table = ServiceTable({}, {})
        self._changed = asyncio.Event()
        keys = ("announce.#", "goodbye.#", f"reply.{self._id}")
        self._subscription = broker.subscription(
            [Subscribed(DISCOVERY, key) for key in keys], on_ready=self._ask
        )

    async def run(self) -> None:
        """Listen until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._subscription.run())
            tasks.create_task(self._hear())

    def services(self) -> list[ServiceEntry]:
        """List the live instances."""
        return self._table.live(self._clock.monotonic())

    async def wait_for_change(self) -> None:
        """Wait until the next message was taken in."""
        self._changed.clear()
        await self._changed.wait()

    async def _ask(self, _: str) -> None:
        body = ServiceQuestion(asker=self._id).to_json()
        properties = Properties(content_type=JSON_CONTENT_TYPE, expiration_seconds=15.0)
        self._outbox.offer(OutgoingMessage(DISCOVERY, "ping", body, properties, persistent=False))

    async def _hear(self) -> None:
        async for message in self._subscription:
            try:
                news = _News.validate_json(message.body)
            except ValidationError as error:
                log.warning("discovery.not_understood", reason=str(error).splitlines()[0])
                continue
            self._table.hear(news, self._clock.monotonic())
            self._changed.set()
