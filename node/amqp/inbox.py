"""Deliveries from queues, across reconnections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import structlog
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aiormq import spec
from aiormq.abc import AbstractChannel as AbstractUnderlayChannel

from node.amqp.connection import SupervisedConnection
from node.amqp.translation import from_aio_pika, translated
from node.errors import BrokerUnavailable, TopologyMismatch
from node.ports import Delivery, Prepare

RETRY_SECONDS = 2.0

log = structlog.get_logger(__name__)


class AmqpInbox:
    """Consumes queues on one channel; a new channel is a new generation of deliveries.

    State shared between tasks: `_channel`, `_consumers` and `_generation` change only in `run`
    and, at the end, in `stop_consuming`. The consumer callback only hands over: aiormq cancels
    callbacks in flight when their channel closes.
    """

    def __init__(
        self,
        connection: SupervisedConnection,
        queues: Sequence[str],
        prefetch_count: int,
        prepare: Prepare | None = None,
    ) -> None:
        self._connection = connection
        self._prepare = prepare
        self._queues = queues
        self._prefetch_count = prefetch_count
        self._handed_over: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._channel: AbstractChannel | None = None
        self._consumers: dict[AbstractQueue, str] = {}
        self._generation = 0
        self._withdrawn: set[tuple[int, str]] = set()
        self._stopped = False

    async def run(self) -> None:
        """Consume until cancelled; whenever the channel is lost, on a new one."""
        while True:
            try:
                if self._generation > 0 and self._prepare is not None:
                    await self._prepare()
                await self._consume_until_lost()
            except BrokerUnavailable as error:
                log.warning("inbox.interrupted", queues=self._queues, reason=str(error))
            except TopologyMismatch as error:
                log.error("inbox.refused", queues=self._queues, reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            if self._stopped:
                return

    async def _consume_until_lost(self) -> None:
        async with self._connection.channel() as channel:
            if self._stopped:
                return
            ended = asyncio.Event()
            channel.close_callbacks.add(lambda *_: ended.set())
            underlay = await channel.get_underlay_channel()
            underlay.on_consumer_cancel_callbacks.add(
                lambda frame: self._on_broker_cancel(frame, ended)
            )
            await channel.set_qos(prefetch_count=self._prefetch_count)
            self._generation += 1
            self._channel = channel
            try:
                await self._start_consumers(channel)
                await ended.wait()
            finally:
                self._channel = None
                self._consumers = {}

    async def _start_consumers(self, channel: AbstractChannel) -> None:
        for name in self._queues:
            queue = await channel.get_queue(name, ensure=False)
            self._consumers[queue] = await queue.consume(self._hand_over_from(name))
        log.info("inbox.opened", queues=self._queues, prefetch_count=self._prefetch_count)

    def _hand_over_from(self, queue: str) -> Callable[[AbstractIncomingMessage], Awaitable[None]]:
        generation = self._generation

        async def hand_over(message: AbstractIncomingMessage) -> None:
            assert message.delivery_tag is not None
            self._handed_over.put_nowait(
                Delivery(
                    message=from_aio_pika(message),
                    queue=queue,
                    generation=generation,
                    tag=message.delivery_tag,
                    redelivered=bool(message.redelivered),
                )
            )

        return hand_over

    def _on_broker_cancel(self, frame: spec.Basic.Cancel, ended: asyncio.Event) -> None:
        # The queue was deleted or its leader moved. Deliveries of the other queues on this
        # channel are still ours, so they go back and come again on the next channel.
        for queue, tag in self._consumers.items():
            if tag == frame.consumer_tag:
                self._withdrawn.add((self._generation, queue.name))
                log.warning("inbox.cancelled_by_broker", queue=queue.name)
        ended.set()

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        while (delivery := await self._handed_over.get()) is not None:
            yield delivery

    def is_live(self, delivery: Delivery) -> bool:
        """Say whether the delivery came on the channel that is open now."""
        channel = self._channel
        return (
            channel is not None
            and not channel.is_closed
            and delivery.generation == self._generation
        )

    def is_orphan(self, delivery: Delivery) -> bool:
        """Say whether the broker cancelled the consumer that the delivery came to.

        Where only the queue's leader moved it comes again, and is answered with the same result.
        """
        return (delivery.generation, delivery.queue) in self._withdrawn

    async def ack(self, delivery: Delivery) -> bool:
        """Settle a delivery; False when it was stale."""
        return await self._answer(delivery, lambda channel: channel.basic_ack(delivery.tag))

    async def requeue(self, delivery: Delivery) -> bool:
        """Give a delivery back; False when it was stale."""
        return await self._answer(
            delivery, lambda channel: channel.basic_nack(delivery.tag, requeue=True)
        )

    async def _answer(
        self, delivery: Delivery, answer: Callable[[AbstractUnderlayChannel], Awaitable[None]]
    ) -> bool:
        if not self.is_live(delivery):
            log.info("delivery.stale", queue=delivery.queue, generation=delivery.generation)
            return False
        assert self._channel is not None
        try:
            with translated():
                await answer(await self._channel.get_underlay_channel())
        except BrokerUnavailable as error:
            log.warning("delivery.stale", queue=delivery.queue, reason=str(error))
            return False
        return True

    async def stop_consuming(self) -> None:
        """Cancel the consumers; deliveries that were handed over can still be settled."""
        self._stopped = True
        consumers, self._consumers = self._consumers, {}
        try:
            with translated():
                await asyncio.gather(*(queue.cancel(tag) for queue, tag in consumers.items()))
        except (BrokerUnavailable, TopologyMismatch) as error:
            log.info("inbox.lost_while_stopping", reason=str(error))
        self._handed_over.put_nowait(None)
