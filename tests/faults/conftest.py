"""A broker, nodes and an account for each scenario."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.faults.harness.account import Account
from tests.faults.harness.broker import FaultyBroker
from tests.faults.harness.chain_account import ChainAccount
from tests.faults.harness.chain_fleet import CHAIN_SERVICES, ChainFleet
from tests.faults.harness.fleet import Fleet
from tests.faults.harness.proxy import Proxy


class SharedBroker:
    """One broker for many scenarios; one that cannot be made good again is replaced."""

    def __init__(self) -> None:
        self._broker: FaultyBroker | None = None

    async def good(self) -> FaultyBroker:
        """Return a broker that runs."""
        if self._broker is None:
            self._broker = FaultyBroker()
            await self._broker.start()
        return self._broker

    def close(self) -> None:
        """End it and throw its data away."""
        broker, self._broker = self._broker, None
        if broker is not None:
            broker.private.close()


@pytest.fixture(scope="session")
def shared_broker() -> Iterator[SharedBroker]:
    """A place for the broker that scenarios share."""
    shared = SharedBroker()
    yield shared
    shared.close()


@pytest.fixture
async def broker(shared_broker: SharedBroker) -> AsyncIterator[FaultyBroker]:
    """A private broker without queues; the scenario may do anything to it."""
    broker = await shared_broker.good()
    yield broker
    try:
        await broker.repair()
    except Exception:
        shared_broker.close()
        raise


@pytest.fixture
def fleet(broker: FaultyBroker, tmp_path: Path) -> Iterator[Fleet]:
    """Nodes of that broker."""
    with Fleet([broker.url], tmp_path) as fleet:
        yield fleet


@pytest.fixture
async def account(
    broker: FaultyBroker, fleet: Fleet, request: pytest.FixtureRequest
) -> AsyncIterator[Account]:
    """The books of this scenario."""
    async with Account.open([broker.url], fleet, request.node.name) as account:
        yield account


@pytest.fixture
def bad_link(broker: FaultyBroker) -> Iterator[Proxy]:
    """A link to the broker that can be made bad."""
    with Proxy(broker.port) as proxy:
        yield proxy


@pytest.fixture
def chain_fleet(broker: FaultyBroker, tmp_path: Path) -> Iterator[ChainFleet]:
    """Services, and orchestrators of chains of them."""
    broker.services |= CHAIN_SERVICES
    with ChainFleet([broker.url], tmp_path) as fleet:
        yield fleet


@pytest.fixture
async def chains(
    broker: FaultyBroker, chain_fleet: ChainFleet, request: pytest.FixtureRequest
) -> AsyncIterator[ChainAccount]:
    """The books of this scenario's chains."""
    async with ChainAccount.open([broker.url], chain_fleet, request.node.name) as account:
        account.store = chain_fleet.store
        yield account
