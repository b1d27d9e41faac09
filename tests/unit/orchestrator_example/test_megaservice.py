"""A graph as a component of a node: what it refuses, and whether it is fit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from contracts.megaservice import MegaServiceRequest
from contracts.topology import service_topology
from node.errors import InvalidRequest
from node.settings import Settings
from node.tasks import running
from orchestrator_example.graph import ServiceGraph
from orchestrator_example.kinds import Kinds
from orchestrator_example.megaservice import MegaService
from orchestrator_example.serving import served
from tests.fakes import InMemoryBroker
from tests.harness import until
from tests.unit.orchestrator_example.builders import graph, stage

LINE = graph("first", stage("second", parameters={"n": 1}), flow="first >> second")


class LosingBroker(InMemoryBroker):
    """A broker whose connection fails for good once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.server.declare(service_topology("mega"))
        self.lost = asyncio.Event()
        self.reachable = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with running(connection=self._fail()):
            yield

    async def wait_until_connected(self) -> None:
        await self.reachable.wait()

    async def _fail(self) -> None:
        await self.lost.wait()
        raise ConnectionError("the broker is gone for good")


def ignore(_: Any) -> None:
    pass


def component(of: ServiceGraph = LINE, broker: Any = None, **settings: Any) -> MegaService:
    if broker is None:
        broker = InMemoryBroker()
        broker.server.declare(service_topology("mega"))
    return served(of, "mega")(Settings(**settings), broker)


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"third": {}}, "parameters: no stage 'third'; there are: first, second"),
        (
            {"second": {"text": "mine"}},
            "'text' of stage 'second' is what the prompt or another stage gives it",
        ),
        ({"first": {"text": "mine"}}, "'text' of stage 'first'"),
    ],
)
def test_parameters_that_no_stage_would_read_are_refused(
    parameters: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidRequest, match=why):
        component().admit(MegaServiceRequest(prompt="x", parameters=parameters))


def test_parameters_of_stages_are_admitted() -> None:
    parameters = {"first": {"seed": 1}, "second": {"n": 2}}
    component().admit(MegaServiceRequest(prompt="x", parameters=parameters))


async def test_it_warns_where_answers_would_not_outlive_it(tmp_path: object) -> None:
    for store, warned in ((None, True), (f"file://{tmp_path}", False)):
        one = component(result_store=store)
        with capture_logs() as logs:
            await one.load(ignore)
        await one.close()
        assert ("chains.not_durable" in [each["event"] for each in logs]) is warned


async def test_it_is_up_once_it_is_connected() -> None:
    broker = LosingBroker()
    one = component(broker=broker)
    loading = asyncio.create_task(one.load(ignore))
    done, _ = await asyncio.wait({loading}, timeout=0.05)
    assert not done
    broker.reachable.set()
    await asyncio.wait_for(loading, 5)
    assert one.health().healthy
    await one.close()


async def test_it_does_not_come_up_without_its_connection() -> None:
    broker = LosingBroker()
    broker.lost.set()
    one = component(broker=broker)
    with pytest.raises(ConnectionError, match="gone for good"):
        await asyncio.wait_for(one.load(ignore), 5)
    await one.close()


async def test_it_says_so_when_it_can_hear_no_more_answers() -> None:
    broker = LosingBroker()
    broker.reachable.set()
    one = component(broker=broker)
    await one.load(ignore)
    assert one.health().healthy
    broker.lost.set()
    await until(lambda: not one.health().healthy, "the end of its health")
    assert "has failed" in one.health().detail
    await one.close()


async def test_what_was_never_loaded_is_healthy_and_can_be_closed() -> None:
    one = component(graph(stage("a", kinds=Kinds())))
    assert one.health().healthy
    await one.close()
