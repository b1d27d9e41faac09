"""An exclusive, server-named queue for what is broadcast or answered to this process."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import structlog
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from node.amqp.connection import SupervisedConnection
from node.amqp.translation import from_aio_pika, translated
from node.errors import BrokerUnavailable, MessagingError
from node.ports import IncomingMessage, OnReady, Subscribed

RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


class AmqpSubscription:
    """Listens on a queue of its own; after a reconnection on a new one, bound the same way.

    State shared between tasks: `_subscribed` is changed by `bind` and `unbind`; `_queue` by `run`.
    """

    def __init__(
        self,
        connection: SupervisedConnection,
        subscribed: Sequence[Subscribed] = (),
        on_ready: OnReady | None = None,
    ) -> None:
        self._connection = connection
        self._subscribed = dict.fromkeys(subscribed)
        self._on_ready = on_ready
        self._messages: asyncio.Queue[IncomingMessage] = asyncio.Queue()
        self._queue: AbstractQueue | None = None
        self._ready = asyncio.Event()

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen_until_lost()
            except BrokerUnavailable as error:
                log.info("subscription.interrupted", reason=str(error))
            except MessagingError as error:
                # On a new broker a listener may come before the node that declares the exchange.
                log.warning(
                    "subscription.refused", reason=str(error), next_try_seconds=RETRY_SECONDS
                )
                await asyncio.sleep(RETRY_SECONDS)

    async def _listen_until_lost(self) -> None:
        async with self._connection.channel() as channel:
            closed = asyncio.Event()
            channel.close_callbacks.add(lambda *_: closed.set())
            underlay = await channel.get_underlay_channel()
            underlay.on_consumer_cancel_callbacks.add(lambda _: closed.set())
            queue = await channel.declare_queue(exclusive=True, auto_delete=True)
            for each in list(self._subscribed):
                await queue.bind(each.exchange, each.routing_key)
            await queue.consume(self._hand_over, no_ack=True)
            self._queue = queue
            self._ready.set()
            try:
                if self._on_ready is not None:
                    await self._on_ready(queue.name)
                await closed.wait()
            finally:
                self._ready.clear()
                self._queue = None

    async def _hand_over(self, message: AbstractIncomingMessage) -> None:
        self._messages.put_nowait(from_aio_pika(message))

    async def __aiter__(self) -> AsyncIterator[IncomingMessage]:
        while True:
            yield await self._messages.get()

    async def queue_name(self) -> str:
        """Wait until listening and return the current name of the queue."""
        while True:
            await self._ready.wait()
            if self._queue is not None:
                return self._queue.name

    async def bind(self, subscribed: Subscribed) -> None:
        """Listen to one more routing key; raises BrokerUnavailable, bound again on reconnection."""
        self._subscribed[subscribed] = None
        if self._queue is not None:
            with translated():
                # Cancelled half-way, aiormq would close the channel, and with it everybody's queue.
                await asyncio.shield(self._queue.bind(subscribed.exchange, subscribed.routing_key))

    async def unbind(self, subscribed: Subscribed) -> None:
        """Stop listening to a routing key."""
        self._subscribed.pop(subscribed, None)
        if self._queue is not None:
            try:
                with translated():
                    await asyncio.shield(
                        self._queue.unbind(subscribed.exchange, subscribed.routing_key)
                    )
            except BrokerUnavailable as error:
                log.debug("subscription.unbind_lost", reason=str(error))
