"""A listener on a real RabbitMQ does not take its own silence for the end of others."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from contracts.topology import DISCOVERY, service_topology
from deploy.private_broker import PrivateBroker
from node.amqp.broker import AmqpBroker
from node.discovery import directory as directory_module
from node.discovery.directory import ServiceDirectory
from node.discovery.table import ServiceTable
from node.ports import OutgoingMessage
from node.tasks import running
from tests.fakes import ManualClock
from tests.harness import PATIENCE_SECONDS, until
from tests.unit.discovery.messages import announcement


class Outage:
    """What keeps messages back while every connection stays open."""

    def __init__(self, broker: PrivateBroker, kind: str) -> None:
        self.broker = broker
        self.kind = kind

    def begin(self) -> None:
        if self.kind == "frozen":
            self.broker.suspend()
        else:
            self.broker.ctl("set_vm_memory_high_watermark", "0.000001")

    def end(self) -> None:
        if self.kind == "frozen":
            self.broker.resume()
        else:
            self.broker.ctl("set_vm_memory_high_watermark", "0.4")


@pytest.fixture(scope="module")
def private_broker() -> Iterator[PrivateBroker]:
    with PrivateBroker() as broker:
        yield broker


@pytest.fixture(params=["frozen", "alarmed"])
def outage(private_broker: PrivateBroker, request: pytest.FixtureRequest) -> Iterator[Outage]:
    outage = Outage(private_broker, request.param)
    yield outage
    outage.end()


@pytest.fixture
async def connection(
    private_broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AmqpBroker]:
    monkeypatch.setattr(directory_module, "ECHO_SECONDS", 0.1)
    connection = AmqpBroker([private_broker.url])
    async with connection.running():
        await connection.apply(service_topology("text2image"))
        yield connection


async def until_no_echo_comes(table: ServiceTable, clock: ManualClock) -> None:
    """Wait until what was under way has come, and nothing more does."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            clock.now += 0.001
            try:
                await asyncio.wait_for(until(lambda: table.heard_at == clock.now), 0.5)
            except TimeoutError:
                return


async def test_a_broker_that_holds_messages_back_ends_nobody(
    connection: AmqpBroker, outage: Outage
) -> None:
    clock = ManualClock()
    directory = ServiceDirectory(connection, clock)
    table = directory._table
    async with running(directory=directory.run()):
        await until(lambda: table.heard_at == clock.now, "an echo")
        said = announcement(ttl_seconds=15.0).to_json()
        connection.outbox.offer(OutgoingMessage(DISCOVERY, "announce.text2image.one", said))
        await until(directory.services, "the announcement")

        outage.begin()
        await until_no_echo_comes(table, clock)
        clock.now += 3600.0
        assert [entry.instance_id for entry in directory.services()] == ["one"]
        assert "alarms" in directory.cut_off()
        assert connection.connected()

        outage.end()
        await until(lambda: table.heard_at == clock.now, "an echo")
        assert directory.cut_off() == ""
        (entry,) = directory.services()
        assert entry.live_until == clock.now + 15.0
