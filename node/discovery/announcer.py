"""Announce this instance, and answer ping, info and stats."""

import asyncio
import random
from typing import Final, assert_never

from contracts.discovery import (
    ANNOUNCE_INTERVAL_SECONDS,
    ANNOUNCE_JITTER_SECONDS,
    ServiceQuestion,
    Verb,
)
from contracts.message import JSON_CONTENT_TYPE, Message
from contracts.topology import DISCOVERY
from node.discovery.identity import Identity
from node.discovery.restraint import Allowance, Complaints
from node.ports import (
    IncomingMessage,
    Outbox,
    OutgoingMessage,
    Properties,
    Subscribed,
    Subscription,
)

EXPIRATION_SECONDS: Final = 15.0
MAX_QUESTION_BYTES: Final = 4096
ANSWERS_AT_ONCE: Final = 100
"""So many listeners may come back at the same time, after a restart of the broker, say."""
ANSWERS_A_SECOND: Final = 10.0
"""Who gets none hears an announcement seconds later."""


def questions_for(service: str, instance_id: str) -> list[Subscribed]:
    """List the routing keys under which this instance is asked."""
    return [
        Subscribed(DISCOVERY, ".".join((verb.value, *address)))
        for verb in Verb
        for address in ((), (service,), (service, instance_id))
    ]


class Announcer:
    """Speaks for one instance on the exchange of discovery."""

    def __init__(self, identity: Identity, outbox: Outbox, questions: Subscription) -> None:
        self._identity = identity
        self._outbox = outbox
        self._questions = questions
        self._changed = asyncio.Event()
        self._silent = False
        self._answers = Allowance(ANSWERS_AT_ONCE, ANSWERS_A_SECOND)
        self._complaints = Complaints()

    async def run(self) -> None:
        """Announce and answer until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._questions.run())
            tasks.create_task(self._announce())
            tasks.create_task(self._answer())

    def changed(self) -> None:
        """Announce at once, because something worth knowing changed."""
        self._changed.set()

    def goodbye(self, reason: str) -> None:
        """Say that this instance takes no more work; no announcement follows."""
        self._silent = True
        self._publish("goodbye", self._identity.goodbye(reason))

    async def _announce(self) -> None:
        while not self._silent:
            self._publish("announce", self._identity.announcement())
            jitter = random.uniform(-ANNOUNCE_JITTER_SECONDS, ANNOUNCE_JITTER_SECONDS)
            try:
                async with asyncio.timeout(ANNOUNCE_INTERVAL_SECONDS + jitter):
                    await self._changed.wait()
            except TimeoutError:
                continue
            self._changed.clear()

    def _publish(self, kind: str, message: Message) -> None:
        identity = self._identity
        self._offer(f"{kind}.{identity.service}.{identity.instance_id}", message)

    async def _answer(self) -> None:
        async for question in self._questions:
            now = _now()
            if not self._answers.take(now):
                self._complaints.make(now, "discovery.questions_left", reason="too many are asked")
                continue
            try:
                verb, asker = _read(question)
            except ValueError as error:
                reason = str(error).splitlines()[0]
                self._complaints.make(now, "discovery.not_understood", reason=reason)
                continue
            self._offer(f"reply.{asker}", self._reply(verb), question)

    def _reply(self, verb: Verb) -> Message:
        match verb:
            case Verb.PING:
                return self._identity.ping_reply()
            case Verb.INFO:
                return self._identity.info_reply()
            case Verb.STATS:
                return self._identity.stats_reply()
            case _ as never:
                assert_never(never)

    def _offer(
        self, routing_key: str, message: Message, question: IncomingMessage | None = None
    ) -> None:
        properties = Properties(
            correlation_id=question.properties.correlation_id if question else None,
            content_type=JSON_CONTENT_TYPE,
            type=str(getattr(message, "type", "")),
            expiration_seconds=EXPIRATION_SECONDS,
        )
        self._outbox.offer(
            OutgoingMessage(
                DISCOVERY,
                routing_key,
                message.to_json(),
                properties,
                persistent=False,
                signed=True,
            )
        )


def _read(question: IncomingMessage) -> tuple[Verb, str]:
    """Read what is asked and by whom. Raises ValueError (pydantic's is one)."""
    if len(question.body) > MAX_QUESTION_BYTES:
        raise ValueError(f"{len(question.body)} bytes, at most {MAX_QUESTION_BYTES}")
    asker = ServiceQuestion.model_validate_json(question.body, extra="ignore").asker
    return Verb(question.routing_key.split(".")[0]), asker


def _now() -> float:
    return asyncio.get_running_loop().time()
