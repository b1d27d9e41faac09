"""Fixtures of every suite: a broker, in memory and real, and a world around it."""

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import aio_pika
import pytest
import structlog

from contracts.topology import service_topology
from node.amqp.broker import AmqpBroker
from node.ports import Broker
from tests.broker import provide_broker
from tests.fakes import InMemoryBroker, InMemoryServer
from tests.harness import SERVICE, World


def pytest_configure() -> None:
    """Let children hear SIGINT: what a script starts with `&` ignores it, and they inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Commands set the level of the log for their process; no test inherits that."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def amqp_url() -> Iterator[str]:
    """A real RabbitMQ: given, in a container, or a private one."""
    with provide_broker() as url:
        yield url


@pytest.fixture
async def clean_amqp_url(amqp_url: str) -> AsyncIterator[str]:
    """A real RabbitMQ without queues of ours."""
    await _delete_queues(amqp_url)
    yield amqp_url
    await _delete_queues(amqp_url)


async def _delete_queues(url: str) -> None:
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        names = [q.name for q in service_topology(SERVICE, ["scripted"]).queues]
        for name in [*names, "full-replies"]:
            await channel.queue_delete(name)


@pytest.fixture(params=["memory", "rabbitmq"])
def connect(request: pytest.FixtureRequest) -> Callable[[], Broker]:
    """Open connections to the same broker."""
    if request.param == "memory":
        server = InMemoryServer()
        return lambda: InMemoryBroker(server)
    url = request.getfixturevalue("clean_amqp_url")
    return lambda: AmqpBroker([url], publish_timeout_seconds=5.0)


@pytest.fixture
async def world(connect: Callable[[], Broker]) -> AsyncIterator[World]:
    """Nodes, callers and clients around one broker."""
    async with AsyncExitStack() as stack:
        yield World(connect, stack)
