"""The adapter on a real RabbitMQ: what is promised in `node.ports` holds, also when links break."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from yarl import URL

from contracts.topology import Binding, Exchange, Queue, Topology
from node.amqp import inbox as inbox_module
from node.amqp.broker import AmqpBroker
from node.amqp.inbox import AmqpInbox
from node.amqp.outbox import MAX_OFFERED
from node.errors import BrokerUnavailable, PublishRefused, TopologyMismatch, Unroutable
from node.ports import Delivery, IncomingMessage, OutgoingMessage, Properties, Subscribed
from node.tasks import running
from tests.harness import PATIENCE_SECONDS, until


class Admin:
    """A connection of the test's own: makes queues and looks into them."""

    def __init__(self, connection: Any, prefix: str) -> None:
        self._connection = connection
        self._prefix = prefix
        self._made: list[tuple[str, str]] = []

    async def queue(self, name: str = "queue", **arguments: Any) -> str:
        """Make a queue of the test's own."""
        full_name = f"{self._prefix}-{name}"
        given = {key.replace("_", "-"): value for key, value in arguments.items()}
        async with self._connection.channel() as channel:
            await channel.declare_queue(full_name, durable=True, arguments=given)
        self._made.append(("queue", full_name))
        return full_name

    async def exchange(self, type: str = "topic") -> str:
        """Make an exchange of the test's own."""
        name = f"{self._prefix}-exchange"
        async with self._connection.channel() as channel:
            await channel.declare_exchange(name, type, durable=True)
        self._made.append(("exchange", name))
        return name

    async def ready(self, queue: str) -> int:
        """Count the messages that wait in a queue."""
        async with self._connection.channel() as channel:
            declared = await channel.declare_queue(queue, passive=True)
            return int(declared.declaration_result.message_count)

    async def until_ready(self, queue: str, count: int) -> None:
        """Wait until so many messages wait in a queue."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                if await self.ready(queue) == count:
                    return
                await asyncio.sleep(0.02)

    async def bodies(self, queue: str) -> list[bytes]:
        """Take everything out of a queue."""
        async with self._connection.channel() as channel:
            taken = []
            source = await channel.get_queue(queue)
            while (message := await source.get(no_ack=True, fail=False)) is not None:
                taken.append(message.body)
            return taken

    async def delete(self, queue: str) -> None:
        """Delete a queue, whoever consumes it."""
        async with self._connection.channel() as channel:
            await channel.queue_delete(queue)

    async def clean_up(self) -> None:
        async with self._connection.channel() as channel:
            for kind, name in self._made:
                await getattr(channel, f"{kind}_delete")(name)


@pytest.fixture
async def admin(amqp_url: str) -> AsyncIterator[Admin]:
    async with await aio_pika.connect(amqp_url) as connection:
        admin = Admin(connection, f"test-amqp-{uuid4().hex[:8]}")
        yield admin
        await admin.clean_up()


@pytest.fixture
async def broker(amqp_url: str) -> AsyncIterator[AmqpBroker]:
    broker = AmqpBroker([amqp_url], publish_timeout_seconds=5.0)
    async with broker.running():
        await asyncio.wait_for(broker.wait_until_connected(), PATIENCE_SECONDS)
        yield broker


@pytest.fixture
def dead_url() -> str:
    """A host that refuses connections."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"amqp://guest:guest@127.0.0.1:{listener.getsockname()[1]}/"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "RETRY_SECONDS", 0.05)


def to(queue: str, body: bytes = b"body", **properties: Any) -> OutgoingMessage:
    return OutgoingMessage("", queue, body, Properties(**properties))


async def lose(connection: Any) -> None:
    """Close a connection underneath everything that lives on it."""
    assert connection._connection is not None
    await connection._connection.close()


class Deliveries:
    """What an inbox handed over."""

    def __init__(self, inbox: AmqpInbox) -> None:
        self.inbox = inbox
        self.taken: list[Delivery] = []
        self.ended = False

    async def read(self) -> None:
        async for delivery in self.inbox:
            self.taken.append(delivery)
        self.ended = True

    async def next(self) -> Delivery:
        count = len(self.taken)
        await until(lambda: len(self.taken) > count, "a delivery")
        return self.taken[count]


@pytest.fixture
async def consume(
    broker: AmqpBroker,
) -> AsyncIterator[Callable[..., Any]]:
    """Open an inbox over queues."""
    async with AsyncExitStack() as stack:

        async def start(*queues: str, prefetch_count: int = 10) -> Deliveries:
            deliveries = Deliveries(broker.inbox(queues, prefetch_count))
            await stack.enter_async_context(
                running(inbox=deliveries.inbox.run(), read=deliveries.read())
            )
            return deliveries

        yield start


# Publishing


async def test_on_return_a_message_is_in_its_queue(broker: AmqpBroker, admin: Admin) -> None:
    queue = await admin.queue(x_queue_type="quorum")
    for n in range(20):
        await broker.outbox.publish(to(queue, b"%d" % n))
    assert await admin.bodies(queue) == [b"%d" % n for n in range(20)]


async def test_every_property_arrives_as_it_was_sent(
    broker: AmqpBroker, admin: Admin, consume: Callable[..., Any]
) -> None:
    queue = await admin.queue()
    sent = Properties(
        message_id="id",
        correlation_id="mine",
        reply_to="replies",
        content_type="application/json",
        type="kind",
        expiration_seconds=60.0,
        priority=7,
        timestamp=1_785_000_000.0,
        headers={"traceparent": "00-1", "x-attempt": 2, "flag": True, "none": None},
    )
    await broker.outbox.publish(OutgoingMessage("", queue, b"\x00\xff", sent))
    deliveries = await consume(queue)
    await until(lambda: deliveries.taken, "the message")
    message = deliveries.taken[0].message
    assert message == IncomingMessage("", queue, b"\x00\xff", sent)


async def test_a_message_that_no_queue_takes_is_unroutable(
    broker: AmqpBroker, admin: Admin
) -> None:
    with pytest.raises(Unroutable):
        await broker.outbox.publish(to("test-amqp-no-such-queue"))
    queue = await admin.queue()
    await broker.outbox.publish(to(queue))
    assert await admin.ready(queue) == 1


async def test_two_messages_with_one_id_are_each_told_their_own_fate(
    broker: AmqpBroker, admin: Admin
) -> None:
    queue = await admin.queue()
    outcomes = await asyncio.gather(
        broker.outbox.publish(to("test-amqp-no-such-queue", message_id="same")),
        broker.outbox.publish(to(queue, message_id="other")),
        return_exceptions=True,
    )
    assert [type(each) for each in outcomes] == [Unroutable, type(None)]


async def test_a_full_queue_refuses_and_others_still_take(broker: AmqpBroker, admin: Admin) -> None:
    full = await admin.queue(
        "full", x_queue_type="quorum", x_max_length=1, x_overflow="reject-publish"
    )

    async def fill() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                await broker.outbox.publish(to(full))

    with pytest.raises(PublishRefused):
        await fill()
    other = await admin.queue("other")
    await broker.outbox.publish(to(other))
    assert await admin.ready(other) == 1


async def test_an_exchange_that_is_missing_is_said_and_the_next_message_goes_out(
    broker: AmqpBroker, admin: Admin
) -> None:
    with pytest.raises((TopologyMismatch, BrokerUnavailable)):
        await broker.outbox.publish(OutgoingMessage("test-amqp-no-such-exchange", "key", b""))
    queue = await admin.queue()
    await broker.outbox.publish(to(queue))
    assert await admin.ready(queue) == 1


async def test_a_broker_that_is_away_is_said_within_the_bound(dead_url: str) -> None:
    broker = AmqpBroker([dead_url], publish_timeout_seconds=0.2)
    async with broker.running():
        with pytest.raises(BrokerUnavailable):
            await broker.outbox.publish(to("queue"))
        assert not broker.connected()


async def test_publishing_goes_on_after_a_lost_connection(broker: AmqpBroker, admin: Admin) -> None:
    queue = await admin.queue()
    await broker.outbox.publish(to(queue, b"before"))
    await lose(broker._publish)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                await broker.outbox.publish(to(queue, b"after"))
                break
            except BrokerUnavailable:
                continue
    assert set(await admin.bodies(queue)) == {b"before", b"after"}


# Offering


async def test_offers_never_wait_and_the_oldest_give_way(amqp_url: str, admin: Admin) -> None:
    queue = await admin.queue()
    broker = AmqpBroker([amqp_url])
    for n in range(MAX_OFFERED + 10):
        broker.outbox.offer(to(queue, b"%d" % n))
    async with broker.running():
        await broker.outbox.flush(PATIENCE_SECONDS)
        await admin.until_ready(queue, MAX_OFFERED)
    assert await admin.bodies(queue) == [b"%d" % n for n in range(10, MAX_OFFERED + 10)]


async def test_offers_to_nowhere_are_dropped_and_the_others_go_out(
    broker: AmqpBroker, admin: Admin
) -> None:
    queue = await admin.queue()
    broker.outbox.offer(to("test-amqp-no-such-queue"))
    broker.outbox.offer(to(queue))
    await admin.until_ready(queue, 1)


async def test_a_missing_exchange_does_not_stop_later_offers(
    broker: AmqpBroker, admin: Admin
) -> None:
    queue = await admin.queue()
    broker.outbox.offer(OutgoingMessage("test-amqp-no-such-exchange", "key", b""))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await admin.ready(queue) == 0:
            broker.outbox.offer(to(queue))
            await asyncio.sleep(0.02)


async def test_flushing_gives_up_when_the_broker_stays_away(dead_url: str) -> None:
    broker = AmqpBroker([dead_url])
    async with broker.running():
        broker.outbox.offer(to("queue"))
        async with asyncio.timeout(5):
            await broker.outbox.flush(0.05)


async def test_flushing_nothing_returns_at_once(dead_url: str) -> None:
    async with asyncio.timeout(1):
        await AmqpBroker([dead_url]).outbox.flush(60)


# Topology


@pytest.fixture
def named(admin: Admin) -> Topology:
    """A small topology with names of the test's own."""
    prefix = admin._prefix
    exchange, queue = f"{prefix}-exchange", f"{prefix}-declared"
    admin._made += [("queue", queue), ("exchange", exchange)]
    return Topology(
        (Exchange(exchange, "topic"),),
        (Queue(queue, {"x-queue-type": "quorum"}),),
        (Binding(exchange, queue, "key.#"),),
    )


async def test_what_is_applied_is_there_and_can_be_applied_again(
    broker: AmqpBroker, admin: Admin, named: Topology
) -> None:
    await broker.apply(named)
    await broker.apply(named)
    await broker.check(named)
    await broker.outbox.publish(OutgoingMessage(named.exchanges[0].name, "key.x", b""))
    assert await admin.ready(named.queues[0].name) == 1


async def test_what_is_missing_is_named_and_nothing_is_made(
    broker: AmqpBroker, named: Topology
) -> None:
    for _ in range(2):
        with pytest.raises(TopologyMismatch) as raised:
            await broker.check(named)
        assert f"queue {named.queues[0].name}" in str(raised.value)
        assert f"exchange {named.exchanges[0].name}" in str(raised.value)


async def test_what_differs_is_named_and_the_connection_stays(
    broker: AmqpBroker, named: Topology
) -> None:
    await broker.apply(named)
    queue = named.queues[0].name
    for other in (
        Topology((), (Queue(queue, {"x-queue-type": "classic"}),), ()),
        Topology((Exchange(named.exchanges[0].name, "direct"),), (), ()),
    ):
        with pytest.raises(TopologyMismatch, match=admin_prefix(queue)):
            await broker.apply(other)
    await broker.check(named)
    assert broker._control.generation == 1


def admin_prefix(queue: str) -> str:
    return queue.rsplit("-", 1)[0]


# Consuming


async def test_an_acked_delivery_is_gone_and_a_requeued_one_comes_again(
    broker: AmqpBroker, admin: Admin, consume: Callable[..., Any]
) -> None:
    queue = await admin.queue()
    for body in (b"acked", b"requeued"):
        await broker.outbox.publish(to(queue, body))
    deliveries = await consume(queue)
    await until(lambda: len(deliveries.taken) == 2, "both deliveries")
    first, second = deliveries.taken
    assert (first.redelivered, first.queue) == (False, queue)
    assert deliveries.inbox.is_live(first)
    assert await deliveries.inbox.ack(first)
    assert await deliveries.inbox.requeue(second)
    await until(lambda: len(deliveries.taken) == 3, "the redelivery")
    again = deliveries.taken[2]
    assert (again.message.body, again.redelivered) == (b"requeued", True)
    assert await deliveries.inbox.ack(again)
    await admin.until_ready(queue, 0)


async def test_no_more_is_taken_than_the_prefetch_count_allows(
    broker: AmqpBroker, admin: Admin, consume: Callable[..., Any]
) -> None:
    queue = await admin.queue()
    for n in range(5):
        await broker.outbox.publish(to(queue, b"%d" % n))
    deliveries = await consume(queue, prefetch_count=2)
    await admin.until_ready(queue, 3)
    await until(lambda: len(deliveries.taken) == 2, "two deliveries")
    assert await deliveries.inbox.ack(deliveries.taken[0])
    await admin.until_ready(queue, 2)
    await until(lambda: len(deliveries.taken) == 3, "a third delivery")


async def test_after_a_lost_connection_everything_comes_again_and_old_answers_mean_nothing(
    broker: AmqpBroker, admin: Admin, consume: Callable[..., Any]
) -> None:
    queue = await admin.queue(x_queue_type="quorum")
    await broker.outbox.publish(to(queue))
    deliveries = await consume(queue)
    await until(lambda: deliveries.taken, "the delivery")
    stale = deliveries.taken[0]
    await lose(broker._consume)
    assert not deliveries.inbox.is_live(stale)
    assert not await deliveries.inbox.ack(stale)
    assert not await deliveries.inbox.requeue(stale)
    await until(lambda: len(deliveries.taken) == 2, "the redelivery")
    fresh = deliveries.taken[1]
    assert fresh.redelivered
    assert fresh.generation > stale.generation
    assert not await deliveries.inbox.ack(stale)
    assert await deliveries.inbox.ack(fresh)
    await admin.until_ready(queue, 0)


async def test_a_stale_answer_never_settles_another_delivery_of_the_same_tag(
    broker: AmqpBroker, admin: Admin, consume: Callable[..., Any]
) -> None:
    queue = await admin.queue()
    await broker.outbox.publish(to(queue))
    deliveries = await consume(queue)
    await until(lambda: deliveries.taken, "the delivery")
    await lose(broker._consume)
    await until(lambda: len(deliveries.taken) == 2, "the redelivery")
    stale, fresh = deliveries.taken
    assert stale.tag == fresh.tag
    assert not await deliveries.inbox.ack(stale)
    assert deliveries.inbox.is_live(fresh)
    assert await deliveries.inbox.requeue(fresh)
    await until(lambda: len(deliveries.taken) == 3, "the message, still there")


async def test_a_queue_deleted_under_its_consumer_is_consumed_again_once_it_is_back(
    broker: AmqpBroker, admin: Admin, consume: Callable[..., Any]
) -> None:
    gone, stays = await admin.queue("gone"), await admin.queue("stays")
    deliveries = await consume(gone, stays)
    await broker.outbox.publish(to(stays, b"held"))
    await until(lambda: deliveries.taken, "a delivery")
    await admin.delete(gone)
    await until(lambda: not deliveries.inbox.is_live(deliveries.taken[0]), "the cancel")
    await admin.queue("gone")
    await broker.outbox.publish(to(gone, b"after"))
    await until(
        lambda: (
            {(d.queue, d.redelivered) for d in deliveries.taken[1:]}
            >= {
                (gone, False),
                (stays, True),
            }
        ),
        "the deliveries of both queues",
    )
    assert broker._consume.generation == 1


async def test_what_consuming_needs_is_prepared_again_after_an_interruption(
    broker: AmqpBroker, admin: Admin
) -> None:
    queue = await admin.queue()
    prepared = 0

    async def prepare() -> None:
        nonlocal prepared
        await admin.queue()
        prepared += 1

    deliveries = Deliveries(broker.inbox([queue], 10, prepare))
    async with running(inbox=deliveries.inbox.run(), read=deliveries.read()):
        await broker.outbox.publish(to(queue, b"before"))
        await until(lambda: deliveries.taken, "a delivery")
        assert prepared == 0
        await admin.delete(queue)
        await until(lambda: prepared > 0, "the preparation")
        await broker.outbox.publish(to(queue, b"after"))
        await until(lambda: deliveries.taken[-1].message.body == b"after", "the queue, back again")


async def test_a_consumer_that_stops_gets_nothing_more_and_can_still_answer(
    broker: AmqpBroker, admin: Admin, consume: Callable[..., Any]
) -> None:
    queue = await admin.queue()
    for body in (b"acked", b"requeued"):
        await broker.outbox.publish(to(queue, body))
    deliveries = await consume(queue)
    await until(lambda: len(deliveries.taken) == 2, "both deliveries")
    await deliveries.inbox.stop_consuming()
    await until(lambda: deliveries.ended, "the end of the iteration")
    await broker.outbox.publish(to(queue, b"late"))
    assert await deliveries.inbox.ack(deliveries.taken[0])
    assert await deliveries.inbox.requeue(deliveries.taken[1])
    await admin.until_ready(queue, 2)
    assert len(deliveries.taken) == 2
    assert sorted(await admin.bodies(queue)) == [b"late", b"requeued"]


# Subscriptions


class Ears:
    """A subscription, what it heard, and the names its queue had."""

    def __init__(self, broker: AmqpBroker, *subscribed: Subscribed) -> None:
        self.names: list[str] = []
        self.heard: list[bytes] = []
        self.subscription = broker.subscription(subscribed, on_ready=self._on_ready)

    async def _on_ready(self, name: str) -> None:
        self.names.append(name)

    async def read(self) -> None:
        async for message in self.subscription:
            self.heard.append(message.body)


@asynccontextmanager
async def listening(ears: Ears) -> AsyncIterator[Ears]:
    async with running(run=ears.subscription.run(), read=ears.read()):
        await asyncio.wait_for(ears.subscription.queue_name(), PATIENCE_SECONDS)
        yield ears


async def test_after_a_lost_connection_a_subscription_is_bound_as_before(
    broker: AmqpBroker, admin: Admin
) -> None:
    exchange = await admin.exchange()
    async with listening(Ears(broker, Subscribed(exchange, "given"))) as ears:
        await ears.subscription.bind(Subscribed(exchange, "added"))
        await ears.subscription.bind(Subscribed(exchange, "removed"))
        await ears.subscription.unbind(Subscribed(exchange, "removed"))
        await lose(broker._control)
        await until(lambda: len(ears.names) == 2, "the second call of on_ready")
        assert await ears.subscription.queue_name() == ears.names[1] != ears.names[0]
        for key in ("removed", "given", "added"):
            broker.outbox.offer(OutgoingMessage(exchange, key, key.encode()))
        await until(lambda: len(ears.heard) == 2, "both messages")
        assert ears.heard == [b"given", b"added"]


async def test_results_go_straight_to_the_queue_of_a_subscription(broker: AmqpBroker) -> None:
    async with listening(Ears(broker)) as ears:
        await broker.outbox.publish(to(await ears.subscription.queue_name(), b"result"))
        await until(lambda: ears.heard, "the result")


async def test_the_queue_of_a_subscription_is_gone_when_it_ends(broker: AmqpBroker) -> None:
    async with listening(Ears(broker)) as ears:
        name = await ears.subscription.queue_name()

    async def publish_until_unroutable() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                await broker.outbox.publish(to(name))

    with pytest.raises(Unroutable):
        await publish_until_unroutable()


# Connections


async def test_the_next_host_is_tried_when_one_is_dead(
    amqp_url: str, dead_url: str, admin: Admin
) -> None:
    queue = await admin.queue()
    broker = AmqpBroker([dead_url, amqp_url], publish_timeout_seconds=10.0)
    async with broker.running():
        await broker.outbox.publish(to(queue))
        await asyncio.wait_for(broker.wait_until_connected(), PATIENCE_SECONDS)
        assert broker.connected()
    assert await admin.ready(queue) == 1


async def test_a_host_that_takes_no_connection_is_left_alone_after_a_while(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from node.amqp import connection as connection_module

    monkeypatch.setattr(connection_module, "DIAL_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"amqp://guest:guest@127.0.0.1:{mute.getsockname()[1]}/"
        broker = AmqpBroker([url, amqp_url])
        async with broker.running():
            await asyncio.wait_for(broker.wait_until_connected(), PATIENCE_SECONDS)


async def test_a_wrong_password_is_tried_again_and_never_raised(amqp_url: str) -> None:
    wrong = str(URL(amqp_url).with_user("nobody").with_password("wrong"))
    broker = AmqpBroker([wrong, amqp_url])
    async with broker.running():
        await asyncio.wait_for(broker.wait_until_connected(), PATIENCE_SECONDS)


async def test_losing_one_connection_leaves_the_others(broker: AmqpBroker) -> None:
    await lose(broker._consume)
    assert not broker.connected()
    await until(broker.connected, "the connection, back again")
    generations = [each.generation for each in broker._connections()]
    assert generations == [2, 1, 1]


async def test_everything_offered_before_the_end_is_out_after_flushing(
    amqp_url: str, admin: Admin
) -> None:
    queue = await admin.queue()
    broker = AmqpBroker([amqp_url])
    async with broker.running():
        for n in range(100):
            broker.outbox.offer(to(queue, b"%d" % n))
        await broker.outbox.flush(PATIENCE_SECONDS)
    await admin.until_ready(queue, 100)
