"""No message takes a node down, whatever its publisher wrote into the AMQP properties.

The properties are written here byte by byte: client libraries refuse to send most of them, brokers
do not. What comes in must be handed over, and must be fit to be published again.
"""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pika
import pytest

from contracts.topology import service_topology
from node.amqp.broker import AmqpBroker
from node.ports import OutgoingMessage, Properties, Subscribed
from node.tasks import running
from tests.fakes import ScriptedComponent
from tests.harness import PATIENCE_SECONDS, World, until

# Flags of the properties, from the specification of AMQP 0-9-1, in the order in which they follow.
CONTENT_TYPE, CONTENT_ENCODING, HEADERS, DELIVERY_MODE, PRIORITY, CORRELATION_ID = (
    1 << bit for bit in (15, 14, 13, 12, 11, 10)
)
REPLY_TO, EXPIRATION, MESSAGE_ID, TIMESTAMP, TYPE, USER_ID, APP_ID = (
    1 << bit for bit in (9, 8, 7, 6, 5, 4, 3)
)


class Raw(pika.BasicProperties):
    """Properties as they stand on the wire."""

    def __init__(self, flags: int, data: bytes) -> None:
        self.wire = (flags, data)

    def encode(self) -> list[bytes]:
        flags, data = self.wire
        return [struct.pack(">H", flags), data]


def short(text: bytes) -> bytes:
    return struct.pack("B", len(text)) + text


def long(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def table(**items: bytes) -> bytes:
    return long(b"".join(short(name.encode()) + value for name, value in items.items()))


def headers(**items: bytes) -> Raw:
    return Raw(HEADERS, table(**items))


def timestamp(value: int) -> bytes:
    return struct.pack(">Q", value)


def nested_tables(depth: int) -> bytes:
    value = b"V"
    for _ in range(depth):
        value = b"F" + table(n=value)
    return value


def nested_lists(depth: int) -> bytes:
    value = b"V"
    for _ in range(depth):
        value = b"A" + long(value)
    return value


NOT_UTF8 = b"\xff\xfe"
EVERY_TYPE = {
    "boolean": b"t\x01",
    "signed_8": b"b\x80",
    "unsigned_8": b"B\xff",
    "signed_16": b"s\x80\x00",
    "unsigned_16": b"u\xff\xff",
    "signed_32": b"I\x80\x00\x00\x00",
    "unsigned_32": b"i\xff\xff\xff\xff",
    "signed_64": b"l\x80" + bytes(7),
    "float": b"f" + struct.pack(">f", 1.5),
    "double": b"d" + struct.pack(">d", 1e308),
    "decimal": b"D\xff\xff\xff\xff\xff",
    "text": b"S" + long(b"text"),
    "not_utf8": b"S" + long(NOT_UTF8),
    "binary": b"x" + long(NOT_UTF8),
    "list": b"A" + long(b"Vt\x01"),
    "table": b"F" + table(double=b"d" + struct.pack(">d", 1e308)),
    "time": b"T" + timestamp(1_785_000_000),
    "nothing": b"V",
    "": b"V",
    "x" * 255: b"V",
}

HOSTILE = {
    "timestamp in microseconds": Raw(TIMESTAMP, timestamp(1_785_000_000_000_000)),
    "timestamp in nanoseconds": Raw(TIMESTAMP, timestamp(1_785_000_000_000_000_000)),
    "timestamp 2**63-1": Raw(TIMESTAMP, timestamp(2**63 - 1)),
    "timestamp 2**64-1": Raw(TIMESTAMP, timestamp(2**64 - 1)),
    "header of every type": headers(**EVERY_TYPE),
    "header with a time beyond time": headers(time=b"T" + timestamp(2**63 - 1)),
    "header name that is not UTF-8": Raw(HEADERS, long(short(NOT_UTF8) + b"V")),
    "tables nested 50 deep": headers(n=nested_tables(50)),
    "tables nested 400 deep": headers(n=nested_tables(400)),
    "tables nested 5,000 deep": headers(n=nested_tables(5_000)),
    "lists nested 5,000 deep": headers(n=nested_lists(5_000)),
    "headers that fill a frame": headers(n=b"S" + long(b"x" * 130_900)),
    "60,000 headers": Raw(HEADERS, long(b"\x00V" * 60_000)),
    "headers that grow when written as text": headers(n=b"A" + long(b"f\x00\x00\x00\x01" * 3000)),
    "priority 255": Raw(PRIORITY, b"\xff"),
    "empty strings": Raw(CORRELATION_ID | REPLY_TO | MESSAGE_ID | TYPE, short(b"") * 4),
    "correlation_id of 255 bytes": Raw(CORRELATION_ID, short(b"c" * 255)),
    "reply_to of 255 bytes": Raw(REPLY_TO, short(b"r" * 255)),
    "reply_to with nothing to print": Raw(REPLY_TO, short(b"\x00\x1b[31m\n")),
    "type of 254 bytes": Raw(TYPE, short("ü".encode() * 127)),
    "expiration with a sign": Raw(EXPIRATION, short(b"+60000")),
    "longest expiration": Raw(EXPIRATION, short(b"4294967295")),
    **{
        f"{name} that is not UTF-8": Raw(flag, short(NOT_UTF8))
        for name, flag in {
            "content_type": CONTENT_TYPE,
            "content_encoding": CONTENT_ENCODING,
            "correlation_id": CORRELATION_ID,
            "reply_to": REPLY_TO,
            "message_id": MESSAGE_ID,
            "type": TYPE,
            "app_id": APP_ID,
        }.items()
    },
    "reply_to of 255 bytes that are not UTF-8": Raw(REPLY_TO, short(b"\xff" * 255)),
}


class Publisher:
    """Publishes what client libraries would refuse to."""

    def __init__(self, url: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self._connection.channel()
        self.channel.confirm_delivery()

    def publish(self, queue: str, properties: pika.BasicProperties, body: bytes = b"body") -> None:
        self.channel.basic_publish("", queue, body, properties)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def publisher(amqp_url: str) -> Iterator[Publisher]:
    publisher = Publisher(amqp_url)
    yield publisher
    publisher.close()


@pytest.fixture
def queue(publisher: Publisher) -> Iterator[str]:
    name = f"test-hostile-{uuid4().hex[:8]}"
    publisher.channel.queue_declare(name, durable=True)
    yield name
    publisher.channel.queue_delete(name)


@pytest.mark.parametrize("name", HOSTILE)
async def test_it_is_handed_over_on_the_first_connection(
    amqp_url: str, publisher: Publisher, queue: str, name: str
) -> None:
    publisher.publish(queue, HOSTILE[name], b"hostile")
    publisher.publish(queue, pika.BasicProperties(correlation_id="good"), b"next")
    broker = AmqpBroker([amqp_url])
    inbox = broker.inbox([queue], prefetch_count=10)
    async with broker.running(), running(inbox=inbox.run()), asyncio.timeout(PATIENCE_SECONDS):
        deliveries = aiter(inbox)
        hostile, good = [await anext(deliveries) for _ in range(2)]
        assert (hostile.message.body, good.message.body) == (b"hostile", b"next")
        assert good.message.properties.correlation_id == "good"
        assert await inbox.ack(hostile)
        assert await inbox.ack(good)
        assert broker._consume.generation == 1


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_came_in_can_be_published_again(
    amqp_url: str, publisher: Publisher, queue: str, name: str
) -> None:
    publisher.publish(queue, HOSTILE[name], b"hostile")
    broker = AmqpBroker([amqp_url], publish_timeout_seconds=5.0)
    inbox = broker.inbox([queue], prefetch_count=10)
    async with broker.running(), running(inbox=inbox.run()), asyncio.timeout(PATIENCE_SECONDS):
        deliveries = aiter(inbox)
        came = await anext(deliveries)
        given = came.message.properties
        for copied in (
            Properties(headers=given.headers),
            Properties(correlation_id=given.correlation_id, reply_to=given.reply_to),
            Properties(content_type=given.content_type, type=given.type),
            Properties(timestamp=given.timestamp, priority=given.priority),
            Properties(message_id=given.message_id),
        ):
            await broker.outbox.publish(OutgoingMessage("", queue, b"copy", copied))
            again = await anext(deliveries)
            assert again.message.body == b"copy"
        broker.outbox.offer(OutgoingMessage("", queue, b"offered", given))
        assert (await anext(deliveries)).message.body == b"offered"


async def test_a_broadcast_with_hostile_properties_is_survived(
    amqp_url: str, publisher: Publisher
) -> None:
    exchange = f"test-hostile-{uuid4().hex[:8]}"
    publisher.channel.exchange_declare(exchange, "fanout")
    broker = AmqpBroker([amqp_url])
    subscription = broker.subscription([Subscribed(exchange)])
    try:
        async with (
            broker.running(),
            running(run=subscription.run()),
            asyncio.timeout(PATIENCE_SECONDS),
        ):
            await subscription.queue_name()
            for properties in HOSTILE.values():
                publisher.channel.basic_publish(exchange, "", b"hostile", properties)
            good = pika.BasicProperties()
            publisher.channel.basic_publish(exchange, NOT_UTF8, b"hostile", good)
            messages = aiter(subscription)
            for _ in (*HOSTILE, "routing key"):
                assert (await anext(messages)).body == b"hostile"
            assert broker._control.generation == 1
    finally:
        publisher.channel.exchange_delete(exchange)


class HostileComponent(ScriptedComponent):
    """Serves queues of its own."""

    name = "test-hostile"


@pytest.fixture
async def served(amqp_url: str, publisher: Publisher) -> AsyncIterator[Any]:
    """A node on the real broker that serves queues of the test's own."""
    async with AsyncExitStack() as stack:
        world = World(lambda: AmqpBroker([amqp_url], publish_timeout_seconds=5.0), stack)
        yield await world.node(HostileComponent())
    for each in service_topology(HostileComponent.name, ["scripted"]).queues:
        publisher.channel.queue_delete(each.name)


GOOD, BAD = b'{"prompt": "x"}', b"nonsense"
ELSEWHERE = b'{"prompt": "x", "model": "nobody/has-it"}'
DOUBLE, BYTES = EVERY_TYPE["double"], EVERY_TYPE["not_utf8"]


@pytest.mark.parametrize(
    ("properties", "body"),
    [
        (headers(traceparent=DOUBLE, cloudEvents_source=BYTES), GOOD),
        (headers(cloudEvents_data=nested_tables(400)), GOOD),
        (headers(**EVERY_TYPE), BAD),
        (headers(n=nested_tables(400)), BAD),
        (headers(cloudEvents_expirytime=BYTES), GOOD),
        (headers(cloudEvents_expirytime=b"S" + long(b"9999-12-31T23:59:59-23:59")), ELSEWHERE),
        (
            Raw(EXPIRATION | TIMESTAMP, short(b"4294967295") + timestamp(253_402_300_799_000)),
            ELSEWHERE,
        ),
        (Raw(TIMESTAMP, timestamp(2**63 - 1)), GOOD),
        (Raw(MESSAGE_ID, short(NOT_UTF8)), GOOD),
        (headers(n=nested_tables(5_000)), GOOD),
        (headers(n=b"S" + long(b"x" * 130_900)), BAD),
        (headers(traceparent=b"S" + long(b"x" * 130_900)), GOOD),
    ],
    ids=[
        "odd trace context",
        "deep cloud event",
        "bad request with every type",
        "bad request with deep headers",
        "deadline that is not UTF-8",
        "deadline in the year 10000",
        "deadline past the end of time",
        "timestamp past the end of time",
        "job id that is not UTF-8",
        "headers that cannot be read",
        "bad request with headers that fill a frame",
        "trace context that fills a frame",
    ],
)
async def test_the_request_is_answered_and_the_next_one_is_served(
    served: Any, publisher: Publisher, properties: Raw, body: bytes
) -> None:
    service = HostileComponent.name
    publisher.publish(service, properties, body)
    publisher.publish(service, pika.BasicProperties(message_id="next"), GOOD)
    answers: list[dict[str, Any]] = []

    def both_answered() -> bool:
        assert not served.task.done(), served.task.exception()
        answer = publisher.channel.basic_get(f"{service}.results", auto_ack=True)[2]
        if answer is not None:
            answers.append(json.loads(answer))
        return len(answers) == 2

    await until(both_answered, "two answers")
    assert [a["status"] for a in answers if a["job_id"] == "next"] == ["succeeded"]
    await until(lambda: served.node.worker.busy() == 0, "the end of the work")
    assert not served.task.done()
