"""Who is live, as one listener knows it. Pure: it sees no clock but the listener's monotonic one.

Silence proves that others are gone only to who can hear. So the time by which instances expire is
that of the last thing heard, be it the listener's own echo; after a gap everybody gets a new ttl.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from contracts.discovery import Announcement, Goodbye, PingReply, ServiceMetadata

MAX_INSTANCES: Final = 1000
MAX_INSTANCES_OF_ONE_SERVICE: Final = 500
MIN_TTL_SECONDS: Final = 1.0
MAX_TTL_SECONDS: Final = 120.0
GAP_SECONDS: Final = 6.0
"""A listener that heard nothing for so long, not even itself, was cut off or stood still."""
FAREWELL_SECONDS: Final = 30.0
"""How long an announcement that comes late does not undo a goodbye. Not for ever: the next start
on a machine whose clock is behind has a lower incarnation."""
SETTLING_SECONDS: Final = 2.0
"""How long after a restart what its predecessor said may still come in."""

Key = tuple[str, str]
"""Service and instance."""
Order = tuple[int, int]
"""Incarnation and seq; the highest wins."""


class Notice(StrEnum):
    """What a person should be told about a message."""

    DUPLICATE = "duplicate"
    """Two processes use one instance id."""
    FULL = "full"
    """There are too many instances to remember this one."""


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """One instance; times are on the listener's own monotonic clock.

    `duplicate` says that two processes announce themselves under its id: this is the one that
    started later.
    """

    name: str
    instance_id: str
    version: str
    metadata: ServiceMetadata
    order: Order
    live_until: float
    heard_at: float = 0.0
    ttl_seconds: float = MIN_TTL_SECONDS
    duplicate: bool = False


@dataclass(slots=True)
class _Record:
    """What is known of an instance, and of another process under its id."""

    entry: ServiceEntry
    incarnation_since: float
    announced: Order | None = None
    stray: bool = False
    duplicate_until: float = float("-inf")


@dataclass(slots=True)
class ServiceTable:
    """Who is live, by (service, instance). The highest (incarnation, seq) wins."""

    heard_at: float = float("-inf")
    """When anything was heard last: the time by which entries expire."""
    _records: dict[Key, _Record] = field(default_factory=dict, init=False)
    _gone: dict[Key, tuple[Order, float]] = field(default_factory=dict, init=False)

    def listen(self, now: float) -> None:
        """Note that something came in, whatever it was: one hears."""
        if now - self.heard_at > GAP_SECONDS:
            self._forget()
            for record in self._records.values():
                fresh = now + record.entry.ttl_seconds
                record.entry = replace(record.entry, live_until=fresh)
        self.heard_at = now

    def hear(self, news: Announcement | PingReply | Goodbye, now: float) -> Notice | None:
        """Take in one message, and say what a person should know about it."""
        self.listen(now)
        self._forget()
        key, order = (news.name, news.id), (news.incarnation, news.seq)
        if isinstance(news, Goodbye):
            self._part(key, order, now)
            return None
        if self._is_gone(key, order, now):
            return None
        record = self._records.get(key)
        if record is None:
            return self._enter(key, news, now)
        return self._go_on(record, news, now)

    def live(self) -> list[ServiceEntry]:
        """List live instances in a stable order, forgetting the others."""
        self._forget()
        records = (self._records[key] for key in sorted(self._records))
        return [replace(r.entry, duplicate=r.duplicate_until > self.heard_at) for r in records]

    def knows(self, service: str, instance_id: str) -> bool:
        """Say whether an instance is in the table."""
        return (service, instance_id) in self._records

    def _forget(self) -> None:
        for key in [k for k, r in self._records.items() if r.entry.live_until <= self.heard_at]:
            del self._records[key]

    def _enter(self, key: Key, news: Announcement | PingReply, now: float) -> Notice | None:
        of_service = sum(name == news.name for name, _ in self._records)
        if of_service >= MAX_INSTANCES_OF_ONE_SERVICE or len(self._records) >= MAX_INSTANCES:
            return Notice.FULL
        self._records[key] = _Record(_entry(news, now), now, _announced(news))
        return None

    def _go_on(self, record: _Record, news: Announcement | PingReply, now: float) -> Notice | None:
        order = (news.incarnation, news.seq)
        announced = _announced(news)
        # One process gives each announcement a number of its own.
        again = announced is not None and announced == record.announced
        if order < record.entry.order or again:
            settled = now > record.incarnation_since + SETTLING_SECONDS
            record.stray = record.stray or (settled and announced is not None)
            return None
        if news.incarnation > record.entry.order[0]:
            record.incarnation_since = now
        record.entry = _entry(news, now)
        record.announced = announced or record.announced
        # Both are alive only if the other one spoke in between.
        if announced is None or not record.stray:
            return None
        known = record.duplicate_until > now
        record.stray, record.duplicate_until = False, record.entry.live_until
        return None if known else Notice.DUPLICATE

    def _part(self, key: Key, order: Order, now: float) -> None:
        record = self._records.get(key)
        if record is not None and order < record.entry.order:
            return
        self._records.pop(key, None)
        if record is not None and record.duplicate_until > now:
            return  # the other process goes on under this id, and is to be seen
        known, _ = self._gone.pop(key, (order, now))
        self._gone[key] = (max(order, known), now + FAREWELL_SECONDS)
        if len(self._gone) > MAX_INSTANCES:
            del self._gone[next(iter(self._gone))]

    def _is_gone(self, key: Key, order: Order, now: float) -> bool:
        last, until = self._gone.get(key, ((-1, -1), now))
        if order <= last and now < until:
            return True
        self._gone.pop(key, None)
        return False


def _entry(news: Announcement | PingReply, now: float) -> ServiceEntry:
    ttl = min(max(news.ttl_seconds, MIN_TTL_SECONDS), MAX_TTL_SECONDS)
    return ServiceEntry(
        news.name,
        news.id,
        news.version,
        news.metadata,
        order=(news.incarnation, news.seq),
        live_until=now + ttl,
        heard_at=now,
        ttl_seconds=ttl,
    )


def _announced(news: Announcement | PingReply) -> Order | None:
    return (news.incarnation, news.seq) if isinstance(news, Announcement) else None
