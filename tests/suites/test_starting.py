"""A node that starts while its broker is not of use yet."""

from contextlib import AsyncExitStack

from contracts.topology import Topology
from node.errors import BrokerUnavailable
from tests.fakes import InMemoryBroker, InMemoryServer
from tests.harness import World


class RestartingBroker(InMemoryBroker):
    """Takes no topology at first, as a broker that has just been started again."""

    refusals = 1

    async def apply(self, topology: Topology) -> None:
        if self.refusals:
            self.refusals -= 1
            raise BrokerUnavailable("ConnectionInternalError: INTERNAL_ERROR")
        await super().apply(topology)


async def test_it_waits_until_the_broker_takes_its_topology() -> None:
    brokers: list[RestartingBroker] = []
    server = InMemoryServer()

    def connect() -> RestartingBroker:
        brokers.append(RestartingBroker(server))
        return brokers[-1]

    async with AsyncExitStack() as stack:
        node = await World(connect, stack).node()
        assert brokers[0].refusals == 0
        await node.stop()
