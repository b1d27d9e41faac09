"""A graph as a component of a node: what it refuses, and whether it is fit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from contracts.megaservice import MegaServiceRequest
from contracts.message import MAX_FIELDS
from contracts.topology import CONSUMER_TIMEOUT_MS, service_topology
from node.errors import InvalidRequest, SetupError
from node.ports import Clock
from node.settings import Settings
from node.stores.recent import RecentResults
from node.tasks import running
from orchestrator_example import megaservice
from orchestrator_example.graph import ServiceGraph, Stage
from orchestrator_example.kinds import Kinds
from orchestrator_example.megaservice import MegaService
from orchestrator_example.policy import Policy
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


def is_admitted(parameters: dict[str, Any]) -> bool:
    try:
        component().admit(MegaServiceRequest(prompt="x", parameters=parameters))
    except InvalidRequest:
        return False
    return True


def test_parameters_of_stages_are_admitted() -> None:
    assert is_admitted({"first": {"seed": 1}, "second": {"n": 2}})


def many(count: int) -> dict[str, int]:
    """Make so many fields."""
    return {f"field{n}": n for n in range(count)}


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"n" * 200_000: {}}, "no stage 'nnn"),
        ({"first": many(MAX_FIELDS)}, "65 fields for 'first', with those of the graph; at most 64"),
        ({"second": many(MAX_FIELDS - 1)}, "65 fields for 'second'"),
    ],
)
def test_more_than_could_be_sent_on_is_refused_in_short(
    parameters: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidRequest, match=why) as refused:
        component().admit(MegaServiceRequest(prompt="x", parameters=parameters))
    assert len(str(refused.value)) < 200


def test_as_many_parameters_as_can_be_sent_on_are_admitted() -> None:
    assert is_admitted({"first": many(MAX_FIELDS - 1), "second": many(MAX_FIELDS - 2)})


@pytest.mark.parametrize(
    "again",
    [
        Stage("again", "mega"),
        stage("again", policy=Policy(fallback="mega")),
    ],
)
def test_a_service_that_is_a_stage_of_itself_does_not_come_up(again: Stage) -> None:
    with pytest.raises(SetupError, match="mega is a stage of itself: give it, or the stage's"):
        component(graph("first", again))


class Answers(RecentResults):
    """A journal that knows after how many seconds answers are forgotten."""

    def __init__(self, max_age_seconds: float, clock: Clock) -> None:
        super().__init__(10, 1000, max_age_seconds, clock)
        self.ages = {max_age_seconds}
        self.swept = asyncio.Event()

    async def sweep(self, max_age_seconds: float) -> int:
        self.ages.add(max_age_seconds)
        self.swept.set()
        return await super().sweep(max_age_seconds)


@pytest.mark.parametrize("result_seconds", [1.0, 1e6])
async def test_answers_of_stages_are_kept_as_long_as_a_chain_may_last(
    monkeypatch: pytest.MonkeyPatch, result_seconds: float
) -> None:
    opened: list[Answers] = []

    def make(_url: str, _owner: str, max_age_seconds: float, clock: Clock) -> Answers:
        opened.append(Answers(max_age_seconds, clock))
        return opened[-1]

    monkeypatch.setattr(megaservice, "make_journal", make)
    monkeypatch.setattr(megaservice, "SWEEP_SECONDS", 0.0)
    one = component(result_seconds=result_seconds)
    await one.load(ignore)
    (answers,) = opened
    await asyncio.wait_for(answers.swept.wait(), 5)
    assert answers.ages == {max(result_seconds, CONSUMER_TIMEOUT_MS / 1000)}
    await one.close()


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
