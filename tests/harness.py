"""A small world for behaviour suites: nodes, callers and clients around one broker."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

from contracts.result import JobResult
from contracts.text2image import Text2ImageResult
from contracts.topology import EVENTS, dead_queue, results_queue, service_topology
from node.app import Node
from node.client import Client
from node.component import Component, ComponentLoader, ComponentRegistry
from node.ports import Broker, IncomingMessage, OutgoingMessage, Properties, Subscribed
from node.settings import Settings
from node.tasks import running
from tests.fakes import ScriptedComponent

PATIENCE_SECONDS = 20.0
SERVICE = "text2image"


async def until(condition: Callable[[], Any], what: str = "the condition") -> None:
    """Wait until a condition holds, with a bound."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110 - any condition, not an event
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what} did not come true in {PATIENCE_SECONDS} s") from None


class NodeHandle:
    """A node running in this process."""

    def __init__(self, node: Node, component: Component, task: "asyncio.Task[None]") -> None:
        self.node = node
        self.component = component
        self.task = task

    async def stop(self) -> None:
        """Drain, as SIGTERM does."""
        self.node.stop()
        await asyncio.wait_for(self.task, PATIENCE_SECONDS)

    async def kill(self) -> None:
        """Drop everything at once: connections close, nothing is settled."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Caller:
    """Publishes raw requests and reads raw results, as any AMQP client would."""

    def __init__(self, broker: Broker) -> None:
        self._outbox = broker.outbox
        self._replies = broker.subscription()
        self._arrived: asyncio.Queue[IncomingMessage] = asyncio.Queue()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Caller"]:
        async with running(replies=self._replies.run(), read=self._read()):
            await self._replies.queue_name()
            yield self

    async def _read(self) -> None:
        async for message in self._replies:
            self._arrived.put_nowait(message)

    async def publish(
        self,
        body: Any,
        *,
        exchange: str = "",
        routing_key: str = SERVICE,
        answered: bool = True,
        **properties: Any,
    ) -> str:
        """Publish a body (bytes as they are, anything else as JSON) and return its job id."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        job_id = properties.setdefault("message_id", uuid4().hex)
        if answered:
            properties.setdefault("reply_to", await self._replies.queue_name())
        message = OutgoingMessage(exchange, routing_key, data, Properties(**properties))
        await self._outbox.publish(message)
        return str(job_id)

    async def next_message(self) -> IncomingMessage:
        """Wait for the next result message."""
        return await asyncio.wait_for(self._arrived.get(), PATIENCE_SECONDS)

    async def next_result(self) -> JobResult:
        """Wait for the next result."""
        return Text2ImageResult.model_validate_json((await self.next_message()).body)

    async def silent_for(self, seconds: float) -> bool:
        """Say whether no further result comes for so long."""
        try:
            await asyncio.wait_for(self._arrived.get(), seconds)
        except TimeoutError:
            return True
        return False


class World:
    """Everything around one broker; what it starts ends with it."""

    def __init__(self, connect: Callable[[], Broker], stack: AsyncExitStack) -> None:
        self._connect = connect
        self._stack = stack

    async def node(
        self,
        component: Component | None = None,
        *,
        restart_delay_seconds: float = 0.0,
        **given: Any,
    ) -> NodeHandle:
        """Start a node and wait until it is ready."""
        settings = Settings(http_port=0, **given)
        component = component or ScriptedComponent()
        node = Node(settings, component, self._connect(), restart_delay_seconds)
        loader = ComponentLoader(ComponentRegistry(), settings)
        handle = NodeHandle(node, component, asyncio.create_task(node.run(loader)))
        self._stack.push_async_callback(handle.kill)
        await until(lambda: handle.task.done() or not node.reasons_not_ready(), "readiness")
        if handle.task.done():
            handle.task.result()
        return handle

    async def broker(self) -> Broker:
        """Open a connection of one's own, with the topology in place."""
        broker = self._connect()
        await self._stack.enter_async_context(broker.running())
        await broker.apply(service_topology(SERVICE, ["scripted"]))
        return broker

    async def caller(self) -> Caller:
        """Open a raw caller."""
        caller = Caller(await self.broker())
        return await self._stack.enter_async_context(caller.listening())

    async def client(self) -> Client:
        """Open a client."""
        return await self._stack.enter_async_context(Client(await self.broker()).running())

    async def events(self) -> "asyncio.Queue[IncomingMessage]":
        """Collect every event from now on."""
        subscription = (await self.broker()).subscription([Subscribed(EVENTS, "#")])
        collected: asyncio.Queue[IncomingMessage] = asyncio.Queue()

        async def collect() -> None:
            async for message in subscription:
                collected.put_nowait(message)

        await self._stack.enter_async_context(running(run=subscription.run(), read=collect()))
        await subscription.queue_name()
        return collected

    async def dead_letters(self, count: int) -> list[IncomingMessage]:
        """Take `count` messages out of the dead-letter queue."""
        return await self._take(dead_queue(SERVICE), count)

    async def kept_results(self, count: int) -> list[IncomingMessage]:
        """Take `count` messages out of the queue of results without `reply_to`."""
        return await self._take(results_queue(SERVICE), count)

    async def _take(self, queue: str, count: int) -> list[IncomingMessage]:
        inbox = (await self.broker()).inbox([queue], prefetch_count=100)
        taken: list[IncomingMessage] = []
        async with running(inbox=inbox.run()), asyncio.timeout(PATIENCE_SECONDS):
            async for delivery in inbox:
                taken.append(delivery.message)
                await inbox.ack(delivery)
                if len(taken) == count:
                    return taken
        raise AssertionError("the inbox ended")
