"""Gateways for the suites about them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from node.ports import Broker
from tests.gateways import GatewayWorld, Painter
from tests.harness import World


@pytest.fixture
async def gateways(world: World, connect: Callable[[], Broker]) -> AsyncIterator[GatewayWorld]:
    await world.broker()  # puts the topology in place
    async with AsyncExitStack() as stack:
        yield GatewayWorld(connect, stack)


@pytest.fixture
def painter() -> Painter:
    """A component whose jobs wait until the test lets them go on."""
    return Painter(free_running=False)
