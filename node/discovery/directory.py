"""The live table of services, as one listener sees it."""

import asyncio
from typing import Final
from uuid import uuid4

from contracts.discovery import InfoReply, ServiceQuestion, StatsReply, Verb
from contracts.message import JSON_CONTENT_TYPE, Message
from contracts.topology import DISCOVERY
from node.discovery.preflight import Verdict, can_serve
from node.discovery.restraint import Complaints
from node.discovery.table import GAP_SECONDS, Key, Notice, ServiceEntry, ServiceTable
from node.discovery.trust import Doubt, News, read_news
from node.ports import Broker, Clock, IncomingMessage, OutgoingMessage, Properties, Subscribed

__all__ = ["ServiceDirectory", "ServiceEntry"]

ECHO_SECONDS: Final = 2.0
"""How often a listener asks itself, to know whether it hears."""
EXPIRATION_SECONDS: Final = 15.0


class ServiceDirectory:
    """Listens to announcements; asks once after each (re)connection, so it sees everybody at once.

    With `verify`, it believes only users of the broker who are named like the service that they
    speak for. Needs the permission to ask, and to hear the answers.
    """

    def __init__(self, broker: Broker, clock: Clock, *, verify: bool = False) -> None:
        self._broker = broker
        self._clock = clock
        self._verify = verify
        self._id = f"listener-{uuid4().hex[:12]}"
        self._started_at = clock.monotonic()
        self._table = ServiceTable()
        self._stats: dict[Key, StatsReply] = {}
        self._changed = asyncio.Event()
        self._complaints = Complaints()
        self._echo_key = f"{Verb.PING}.{self._id}"
        keys = ("announce.#", "goodbye.#", f"reply.{self._id}", self._echo_key)
        self._subscription = broker.subscription(
            [Subscribed(DISCOVERY, key) for key in keys], on_ready=self._greet
        )

    async def run(self) -> None:
        """Listen until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._subscription.run())
            tasks.create_task(self._hear())
            tasks.create_task(self._hear_itself())

    def services(self) -> list[ServiceEntry]:
        """List the live instances; while this listener is cut off, those it knew before."""
        return self._table.live()

    def cut_off(self) -> str:
        """Say why this listener hears nothing; empty while it does."""
        if not self._broker.connected():
            return self._broker.problem() or "not connected"
        heard_at = max(self._table.heard_at, self._started_at)
        if self._clock.monotonic() <= heard_at + GAP_SECONDS:
            return ""
        return (
            "nothing gets through, not even our own echo: the link is dead, the broker holds "
            f"messages back (look for alarms), or this user may not ask on {DISCOVERY}"
        )

    def can_serve(self, service: str, request: Message) -> Verdict:
        """Say whether a live instance could do a request now, and why not.

        Advice for people and for admission: the queue takes the request either way.
        """
        verdict = can_serve(self.services(), service, request)
        if not (why := self.cut_off()):
            return verdict
        return Verdict(verdict.possible, (*verdict.reasons, f"this may be out of date: {why}"))

    def ask(self, verb: Verb, service: str | None = None, instance_id: str | None = None) -> None:
        """Ask everybody, a service, or one of its instances; `stats` are kept as they come."""
        address = [part for part in (service, instance_id) if part is not None]
        self._say(".".join((verb.value, *address)))

    def stats(self) -> dict[Key, StatsReply]:
        """Return the latest answers to `stats` of live instances."""
        live = {(entry.name, entry.instance_id) for entry in self.services()}
        self._stats = {key: reply for key, reply in self._stats.items() if key in live}
        return self._stats

    async def wait_for_change(self) -> None:
        """Wait until the next message was taken in."""
        self._changed.clear()
        await self._changed.wait()

    async def _greet(self, _: str) -> None:
        self.ask(Verb.PING)
        self._say(self._echo_key)

    async def _hear_itself(self) -> None:
        while True:
            # Unsent echoes would pile up while the broker is away.
            if self._broker.connected():
                self._say(self._echo_key)
            await asyncio.sleep(ECHO_SECONDS)

    def _say(self, routing_key: str) -> None:
        body = ServiceQuestion(asker=self._id).to_json()
        properties = Properties(
            content_type=JSON_CONTENT_TYPE, expiration_seconds=EXPIRATION_SECONDS
        )
        message = OutgoingMessage(DISCOVERY, routing_key, body, properties, persistent=False)
        self._broker.outbox.offer(message)

    async def _hear(self) -> None:
        async for message in self._subscription:
            self._table.listen(self._clock.monotonic())
            if message.routing_key != self._echo_key:
                self._take_in(message)

    def _take_in(self, message: IncomingMessage) -> None:
        news = read_news(message, self._id, verify=self._verify)
        if isinstance(news, Doubt):
            self._complain(news.event, reason=news.reason, user=message.user_id)
            return
        self._believe(news)
        self._changed.set()

    def _believe(self, news: News) -> None:
        now = self._clock.monotonic()
        if isinstance(news, StatsReply):
            if self._table.knows(news.name, news.id):
                self._stats[news.name, news.id] = news
            return
        if isinstance(news, InfoReply):
            return
        match self._table.hear(news, now):
            case Notice.DUPLICATE:
                self._complain(
                    "discovery.duplicate_instance",
                    service=news.name,
                    instance_id=news.id,
                    remedy="two processes use this id: give each a NODE_INSTANCE_ID of its own",
                )
            case Notice.FULL:
                self._complain("discovery.table_full", service=news.name, instance_id=news.id)
            case None:
                pass

    def _complain(self, event: str, **fields: object) -> None:
        self._complaints.make(self._clock.monotonic(), event, **fields)
