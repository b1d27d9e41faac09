"""Messages to the broker: confirmed ones, and best-effort ones that are dropped when it is slow."""

import asyncio
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from typing import Final, TypeVar

import structlog
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelPreconditionFailed

from node.amqp.connection import SupervisedConnection
from node.amqp.translation import to_aio_pika, translated, user_of
from node.errors import BrokerUnavailable, MessagingError, PublishRefused
from node.ports import OutgoingMessage

MAX_OFFERED: Final = 512
ELECTION_SECONDS: Final = 1.0
"""How long a queue that lost its leader may take to have another."""
NOTICE_SECONDS: Final = 0.01
DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to."

T = TypeVar("T")

log = structlog.get_logger(__name__)


class AmqpOutbox:
    """Publishes on two channels of one connection: with confirms, and without.

    State shared between tasks: the two channels are set only by the tasks of `run`; `_offered` is
    filled by `offer` and emptied by `_pump`; `_signs` ends once the broker refused our name.
    """

    def __init__(self, connection: SupervisedConnection, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        self._confirming: asyncio.Future[AbstractChannel] | None = None
        self._offered: deque[OutgoingMessage] = deque(maxlen=MAX_OFFERED)
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._dropped = 0
        self._signs = True

    async def run(self) -> None:
        """Keep both channels open until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hold_confirming_channel())
            tasks.create_task(self._pump_until_cancelled())

    async def publish(self, message: OutgoingMessage) -> None:
        """Publish once; on return it was routed and confirmed. Errors as in `ports.Outbox`.

        A refusal counts when a new channel meets it, too: a channel that first reached a queue
        between the loss of its leader and the next election is refused ever after.
        """
        # The broker hands direct replies over, and then returns them as unroutable.
        mandatory = not message.routing_key.startswith(DIRECT_REPLY_TO)
        channel = await self._bounded(self._confirming_channel())
        try:
            await self._bounded(self._publish(channel, message, mandatory=mandatory))
        except PublishRefused:
            await asyncio.sleep(ELECTION_SECONDS)
            await self._bounded(self._publish_apart(message, mandatory=mandatory))
            log.warning("outbox.channel_replaced", routing_key=message.routing_key)
            with suppress(MessagingError):
                await self._bounded(channel.close())

    async def _publish_apart(self, message: OutgoingMessage, *, mandatory: bool) -> None:
        async with self._connection.channel() as channel:
            await self._publish(channel, message, mandatory=mandatory)

    async def _publish(
        self, channel: AbstractChannel, message: OutgoingMessage, *, mandatory: bool
    ) -> None:
        if channel.is_closed:
            raise BrokerUnavailable("the channel is closed")
        exchange = await channel.get_exchange(message.exchange, ensure=False)
        if not message.exchange:
            exchange = channel.default_exchange
        user_id = await _user_of(channel) if message.signed and self._signs else None
        written = to_aio_pika(message, user_id)
        await exchange.publish(written, message.routing_key, mandatory=mandatory)

    async def _bounded(self, work: Awaitable[T]) -> T:
        with translated():
            async with asyncio.timeout(self._timeout_seconds):
                return await work

    def offer(self, message: OutgoingMessage) -> None:
        """Publish soon, or never: the oldest offer gives way when too many wait."""
        if len(self._offered) == MAX_OFFERED:
            self._dropped += 1
        self._offered.append(message)
        self._idle.clear()
        self._wake.set()

    async def flush(self, timeout_seconds: float) -> None:
        """Wait until offered messages are out, at most so long."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("outbox.flush_gave_up", waiting=len(self._offered))

    async def _confirming_channel(self) -> AbstractChannel:
        while True:
            if self._confirming is None:
                self._confirming = asyncio.get_running_loop().create_future()
            channel = await asyncio.shield(self._confirming)
            if not channel.is_closed:
                return channel
            # A refused message closed it a moment ago, and its holder has not noticed yet.
            await asyncio.sleep(NOTICE_SECONDS)

    async def _hold_confirming_channel(self) -> None:
        while True:
            try:
                async with self._connection.channel() as channel:
                    await self._offer_channel_until_closed(channel)
            except MessagingError as error:
                log.info("outbox.interrupted", reason=str(error))

    async def _offer_channel_until_closed(self, channel: AbstractChannel) -> None:
        closed = asyncio.Event()
        channel.close_callbacks.add(lambda *_: closed.set())
        if channel.is_closed:
            raise BrokerUnavailable("the channel closed as it was opened")
        if self._confirming is None or self._confirming.done():
            self._confirming = asyncio.get_running_loop().create_future()
        self._confirming.set_result(channel)
        try:
            await closed.wait()
        finally:
            self._confirming = None

    async def _pump_until_cancelled(self) -> None:
        while True:
            try:
                async with self._connection.channel(confirms=False) as channel:
                    channel.close_callbacks.add(self._on_offers_closed)
                    await self._pump(channel)
            except MessagingError as error:
                log.info("outbox.events_interrupted", reason=str(error))

    async def _pump(self, channel: AbstractChannel) -> None:
        while True:
            await self._wake.wait()
            while self._offered:
                if channel.is_closed:
                    raise BrokerUnavailable("the channel is closed")
                await self._publish_offered(channel, self._offered.popleft())
            self._wake.clear()
            self._idle.set()
            if self._dropped:
                log.warning("outbox.events_dropped", count=self._dropped)
                self._dropped = 0

    def _on_offers_closed(self, _: object, reason: BaseException | None) -> None:
        # With a token or a certificate the user may not be the one that the address names. Signing
        # on would close the channel again and again, and lose every event with it.
        if isinstance(reason, ChannelPreconditionFailed) and "user_id" in str(reason):
            self._signs = False
            log.error("outbox.signature_refused", reason=str(reason))

    async def _publish_offered(self, channel: AbstractChannel, message: OutgoingMessage) -> None:
        try:
            await self._publish(channel, message, mandatory=False)
        except (TypeError, ValueError, OverflowError) as error:
            # What cannot be written down as AMQP must not end the node.
            log.error("outbox.unwritable", routing_key=message.routing_key, reason=str(error))


async def _user_of(channel: AbstractChannel) -> str | None:
    underlay = await channel.get_underlay_channel()
    return user_of(underlay.connection.url)
