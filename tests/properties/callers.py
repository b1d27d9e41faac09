"""Who publishes requests: clients, and those who wait for no reply."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from contracts.message import HEADER_EXPIRYTIME, HIGH_PRIORITY, format_time
from contracts.result import JobResult
from contracts.text2image import Text2ImageRequest
from contracts.topology import REQUESTS, high_queue
from node.client import Client
from node.dead_letters.box import DeadLetterBox
from node.dead_letters.letter import Selection
from node.errors import BrokerUnavailable, JobNotSucceeded, NodeError, PublishRefused
from node.ports import OutgoingMessage, Properties
from tests.fakes import InMemoryBroker, InMemoryServer
from tests.properties.components import MODEL
from tests.properties.nodes import SERVICE
from tests.properties.scenarios import Behaviour, Body, Submit
from tests.properties.virtual_time import VirtualClock
from tests.properties.weather import Weather

PUBLISHED_AGAIN_SECONDS = 1.0
GIVEN_UP_SECONDS = 300.0


def job_id_of(job: int) -> str:
    """Name a job of a scenario."""
    return f"job-{job}"


@dataclass(slots=True)
class Asked:
    """One request of one caller, and what became of it."""

    job_id: str
    body: Body | None
    """None: no request at all."""
    correlation_id: str | None = None
    """How results on the wire are told apart, where no client does it."""
    deadline: float | None = None
    confirmed: bool = False
    refused: NodeError | None = None
    outcome: JobResult | None = None


class Caller:
    """A client with connections of its own."""

    mortal = False
    dead = False

    def __init__(self, name: str, server: InMemoryServer, weather: Weather) -> None:
        self.name = name
        self.broker = InMemoryBroker(server, partial(weather.at, self))
        self.client = Client(self.broker)

    def kill(self) -> None:
        raise AssertionError("callers do not die")

    async def thawed(self) -> None:
        """Callers are not stopped."""

    async def ask(self, step: Submit, asked: Asked, body: Body) -> None:
        """Submit a request and wait for its result."""
        try:
            await self.client.submit(
                request_of(body),
                job_id=asked.job_id,
                headers=deadline_headers(step, asked),
                priority=HIGH_PRIORITY if step.urgent else 0,
                timeout_seconds=GIVEN_UP_SECONDS,
            )
        except NodeError as error:
            asked.refused = error
            return
        asked.confirmed = True
        try:
            asked.outcome = await self.client.result(asked.job_id)
        except JobNotSucceeded as ended:
            asked.outcome = ended.result

    async def cancel(self, job_id: str) -> None:
        """Ask for a job to be stopped, until the broker has heard it."""
        while True:
            try:
                await self.client.cancel(job_id)
            except BrokerUnavailable:
                await asyncio.sleep(PUBLISHED_AGAIN_SECONDS)
            except PublishRefused:
                return
            else:
                return

    async def replay(self) -> None:
        """Let all dead letters run again, as far as the broker lets us."""
        box = DeadLetterBox(self.broker, SERVICE, VirtualClock())
        with suppress(NodeError):
            await box.replay(Selection(), drop_deadline=True)

    async def publish(self, asked: Asked, body: bytes, step: Submit | None = None) -> None:
        """Publish as any AMQP client does that asks for no reply."""
        urgent = step is not None and step.urgent
        properties = Properties(
            message_id=asked.job_id,
            correlation_id=asked.correlation_id,
            priority=HIGH_PRIORITY if urgent else 0,
            timestamp=VirtualClock().time(),
            expiration_seconds=step.deadline_seconds if step is not None else None,
        )
        if step is not None and step.deadline_seconds is not None:
            asked.deadline = VirtualClock().monotonic() + step.deadline_seconds + 1.0
        key = high_queue(SERVICE) if urgent else SERVICE
        message = OutgoingMessage(REQUESTS, key, body, properties)
        while not asked.confirmed:
            try:
                await self.broker.outbox.publish(message)
            except BrokerUnavailable:
                await asyncio.sleep(PUBLISHED_AGAIN_SECONDS)
            except PublishRefused as error:
                asked.refused = error
                return
            else:
                asked.confirmed = True


def request_of(body: Body) -> Text2ImageRequest:
    """Write the request that behaves in this way."""
    models = {Behaviour.OF_MODEL: MODEL, Behaviour.ELSEWHERE: "elsewhere"}
    return Text2ImageRequest(prompt=body.prompt, model=models.get(body.behaviour))


def deadline_headers(step: Submit, asked: Asked) -> dict[str, Any]:
    """State the deadline of a request, and remember it."""
    if step.deadline_seconds is None:
        return {}
    asked.deadline = asyncio.get_running_loop().time() + step.deadline_seconds
    return {HEADER_EXPIRYTIME: format_time(VirtualClock().time() + step.deadline_seconds)}
