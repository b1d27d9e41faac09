"""Whatever stages answer and callers ask, a chain ends at once with a reason, and goes on after."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from contracts.failure import FailureCode
from contracts.megaservice import MegaServiceRequest, StageStatus
from contracts.message import HEADER_REPLAY, MAX_FIELDS, AnyMessage
from contracts.result import AnyResult, Status
from contracts.topology import service_topology
from node.client import Client
from node.errors import GenerationFailed, JobCancelled, JobNotSucceeded, SafetyRefused
from node.ports import Broker, OutgoingMessage, Properties
from node.tasks import running
from orchestrator_example.graph import ServiceGraph
from orchestrator_example.policy import Policy
from tests.chains import ChainWorld, StageService, shouting
from tests.harness import PATIENCE_SECONDS, World, until

REQUEST = AnyMessage.model_validate({"text": "x"})


@pytest.fixture
def chains(world: World, connect: Callable[[], Broker]) -> ChainWorld:
    return ChainWorld(world, connect)


@asynccontextmanager
async def answering(
    world: World, service: str, answers: dict[str, bytes | dict[str, Any]]
) -> AsyncIterator[None]:
    """Be a service that answers each text with what is here for it, whatever that is."""
    broker = await world.broker()
    await broker.apply(service_topology(service))
    inbox = broker.inbox([service], prefetch_count=10)

    async def answer() -> None:
        async for delivery in inbox:
            message = delivery.message
            asked = message.properties
            found = answers[json.loads(message.body)["text"]]
            head = {"job_id": asked.message_id, "status": "succeeded"}
            body = found if isinstance(found, bytes) else json.dumps(head | found).encode()
            properties = Properties(correlation_id=asked.correlation_id)
            await broker.outbox.publish(OutgoingMessage("", str(asked.reply_to), body, properties))
            await inbox.ack(delivery)

    async with running(inbox=inbox.run(), answer=answer()):
        yield


async def end_of(chains: ChainWorld, prompt: str = "x", **parameters: Any) -> Any:
    """Have a chain done, and say how it ended."""
    async with chains.client() as client:
        request = MegaServiceRequest(prompt=prompt, parameters=parameters)
        try:
            return await client.result(await client.submit(request), PATIENCE_SECONDS)
        except JobNotSucceeded as error:
            return error.result


def nested(depth: int) -> Any:
    """Make lists in lists."""
    return json.loads("[" * depth + "]" * depth)


ENDS: dict[str, tuple[bytes | dict[str, Any], Status, str]] = {
    "failed": ({"status": "failed"}, Status.FAILED, "its service did not say why"),
    "expired": ({"status": "expired"}, Status.FAILED, "it has expired"),
    "cancelled": ({"status": "cancelled"}, Status.CANCELLED, "its service did not say why"),
    "done": ({"status": "done"}, Status.FAILED, "answered what cannot be read: status Input"),
    "no json": (b"oops", Status.FAILED, "answered what cannot be read: Invalid JSON"),
    "fields": (
        {f"field{n}": n for n in range(MAX_FIELDS + 1)},
        Status.FAILED,
        f"fields, at most {MAX_FIELDS} are read",
    ),
    "deep": ({"deep": nested(198)}, Status.FAILED, "answered what cannot be read"),
}


async def test_an_answer_that_says_too_little_or_cannot_be_read_ends_the_chain_with_a_reason(
    world: World, chains: ChainWorld
) -> None:
    handle = await chains.orchestrate(ServiceGraph().add(chains.stage("first")))
    answers = {name: answer for name, (answer, *_) in ENDS.items()}
    async with answering(world, chains.service("first"), answers):
        for name, (_, status, why) in ENDS.items():
            result = await end_of(chains, name)
            assert (name, result.status) == (name, status)
            assert why in result.error.detail
    assert not handle.task.done()


async def test_what_a_stage_says_at_length_is_cut(world: World, chains: ChainWorld) -> None:
    error = {"type": "urn:x", "title": "t", "status": 500, "instance": "j", "retryable": False}
    answer = {"status": "failed", "error": error | {"code": "internal", "detail": "D" * 300_000}}
    await chains.orchestrate(ServiceGraph().add(chains.stage("first")))
    async with answering(world, chains.service("first"), {"x": answer}):
        result = await end_of(chains)
    assert result.error.detail.startswith("stage 'first': DDD")
    assert len(result.error.detail) < 3000
    assert len(result.stages["first"].error.detail) < 3000


@pytest.mark.parametrize("images", [None, 5, ["a.png"]])
async def test_a_component_may_call_something_else_images(
    world: World, chains: ChainWorld, images: Any
) -> None:
    component = StageService(chains.service("own"), lambda *_: {"images": images})
    node = await world.node(component)
    await chains.orchestrate(ServiceGraph().add(chains.stage("own")))
    for _ in range(2):
        result = await end_of(chains)
        assert result.stages["own"].output == {"images": images}
    assert not node.task.done()


async def test_a_model_that_is_a_field_of_the_service_reaches_it(chains: ChainWorld) -> None:
    llm = await chains.serve("llm")
    stage = chains.stage("llm", parameters={"model": "Qwen/Qwen3"})
    await chains.orchestrate(ServiceGraph().add(stage))
    assert (await end_of(chains)).status is Status.SUCCEEDED
    assert llm.requests == [{"model": "Qwen/Qwen3", "text": "x"}]


async def test_warnings_of_a_stage_are_in_its_report_and_the_chains(chains: ChainWorld) -> None:
    await chains.serve("first", lambda *_: {"warnings": ["a field was ignored"]})
    await chains.orchestrate(ServiceGraph().add(chains.stage("first")))
    result = await end_of(chains)
    assert result.stages["first"].warnings == ["a field was ignored"]
    assert result.warnings == ["first: a field was ignored"]


async def test_a_parameter_that_the_graph_makes_is_refused(chains: ChainWorld) -> None:
    first = await chains.serve("first")
    made = chains.stage("first", build=lambda *_: {"seed": 43})
    await chains.orchestrate(ServiceGraph().add(made))
    result = await end_of(chains, first={"seed": 7})
    assert result.error.code is FailureCode.INVALID_REQUEST
    assert "'seed' of stage 'first' is made by the graph" in result.error.detail
    assert not first.begun


async def test_parameters_that_could_not_be_sent_on_are_refused_in_short_before_any_work(
    chains: ChainWorld,
) -> None:
    first = await chains.serve("first")
    graph = ServiceGraph().add(chains.stage("first")).add(chains.stage("second"))
    await chains.orchestrate(graph.flow_to("first", "second"))
    for parameters in (
        {"second": {f"field{n}": n for n in range(MAX_FIELDS)}},
        {"n" * 200_000: {}},
    ):
        error = (await end_of(chains, **parameters)).error
        assert error.code is FailureCode.INVALID_REQUEST
        assert len(error.detail) < 300
    assert not first.begun


async def test_what_is_refused_for_safety_is_not_asked_of_the_fallback(chains: ChainWorld) -> None:
    def refuse(*_: Any) -> dict[str, Any]:
        raise SafetyRefused("not this")

    await chains.serve("first", refuse)
    other = await chains.serve("other")
    policy = Policy(fallback=chains.service("other"))
    await chains.orchestrate(ServiceGraph().add(chains.stage("first", policy=policy)))
    assert (await end_of(chains)).error.code is FailureCode.SAFETY_REFUSED
    assert not other.begun


async def test_a_condition_that_cannot_be_asked_of_an_answer_does_not_hold(
    chains: ChainWorld,
) -> None:
    await chains.serve("first", lambda *_: {"score": "high"})
    graph = ServiceGraph().add(chains.stage("first")).add(chains.stage("second"))
    graph = graph.flow_to("first", "second", {}, when=lambda answer: answer["score"] > 0.5)
    await chains.orchestrate(graph)
    result = await end_of(chains)
    assert result.status is Status.SUCCEEDED
    assert result.stages["second"].status is StageStatus.NOT_TAKEN


async def test_a_stage_under_way_when_another_one_fails_is_reported_as_stopped_by_it(
    chains: ChainWorld,
) -> None:
    slow = await chains.serve("slow")
    slow.hold = True

    def fail(*_: Any) -> dict[str, Any]:
        raise GenerationFailed("it never works")

    await chains.serve("bad", fail)
    graph = ServiceGraph().add(chains.stage("slow")).add(chains.stage("bad"))
    await chains.orchestrate(graph)
    result = await end_of(chains)
    assert (result.status, result.error.code) == (Status.FAILED, FailureCode.GENERATION_FAILED)
    assert result.stages["slow"].status is StageStatus.CANCELLED
    assert result.stages["slow"].reason == "the end of another stage stopped it"


async def test_a_cancel_counts_for_a_chain_that_is_being_handed_back(chains: ChainWorld) -> None:
    first = await chains.serve("first")
    first.hold = True
    handle = await chains.orchestrate(ServiceGraph().add(chains.stage("first")))
    async with chains.client() as client:
        job_id = await client.submit(MegaServiceRequest(prompt="x"))
        await until(lambda: first.begun, "the stage")
        handle.node.worker.hand_back()
        handle.node.worker.cancel(job_id)
        with pytest.raises(JobCancelled):
            await client.result(job_id, PATIENCE_SECONDS)
    await until(lambda: first.stopped, "the stop of the stage's job")


async def test_a_cancel_stops_what_was_started_for_its_job_wherever_that_is(
    world: World, chains: ChainWorld
) -> None:
    component = StageService(chains.service("only"), shouting)
    component.hold = True
    worker = (await world.node(component, slots=1, look_ahead=8)).node.worker
    async with Client(await world.broker(), component.name, AnyResult).running() as client:
        await client.submit(REQUEST, job_id="a:b:1")
        await until(lambda: component.begun, "the first job")
        await client.submit(REQUEST, job_id="a:b:2")
        await client.submit(REQUEST, job_id="ab:1")
        await until(lambda: worker.waiting() == 2, "the jobs that wait")
        await client.cancel("a")
        for job_id in ("a:b:1", "a:b:2"):
            with pytest.raises(JobCancelled):
                await client.result(job_id, PATIENCE_SECONDS)
        late = await client.submit(REQUEST, job_id="a:b:3")
        with pytest.raises(JobCancelled):
            await client.result(late, PATIENCE_SECONDS)
        component.hold = False
        assert (await client.result("ab:1", PATIENCE_SECONDS)).status is Status.SUCCEEDED
    assert [*component.begun] == ["a:b:1", "ab:1"]


async def test_a_replayed_job_is_not_refused_for_a_cancel_from_before(
    world: World, chains: ChainWorld
) -> None:
    component = StageService(chains.service("only"), shouting)
    worker = (await world.node(component)).node.worker
    async with Client(await world.broker(), component.name, AnyResult).running() as client:
        await client.cancel("a")
        await until(lambda: worker.knows_cancelled("a:b:1"), "the cancel")
        await client.submit(REQUEST, job_id="a:b:1", headers={HEADER_REPLAY: 1})
        assert (await client.result("a:b:1", PATIENCE_SECONDS)).status is Status.SUCCEEDED
