"""A chain of services: order, data, failures, cancels, deadlines and takeovers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contracts.events import StageEvent
from contracts.failure import FailureCode
from contracts.megaservice import MegaServiceRequest, StageStatus
from node.errors import GenerationFailed, JobCancelled, JobExpired, JobFailed
from node.ports import Broker
from orchestrator_example.graph import ServiceGraph
from orchestrator_example.policy import OnFailure, Policy
from tests.chains import ChainWorld
from tests.harness import PATIENCE_SECONDS, World, until
from tests.unit.builders import image

PROMPT = MegaServiceRequest(prompt="a red cat")


@pytest.fixture
def chains(world: World, connect: Callable[[], Broker]) -> ChainWorld:
    return ChainWorld(world, connect)


def line(chains: ChainWorld, *names: str) -> ServiceGraph:
    """Draw a graph of stages one after the other."""
    graph = ServiceGraph()
    for name in names:
        graph = graph.add(chains.stage(name))
    return graph.follow([" >> ".join(names)])


async def test_a_chain_runs_its_stages_in_order_and_reports_each(chains: ChainWorld) -> None:
    first = await chains.serve("first")
    second = await chains.serve("second", lambda request, _: {"text": request["text"] + "!"})
    await chains.orchestrate(line(chains, "first", "second"))
    async with chains.client() as client:
        result = await client.result(await client.submit(PROMPT), PATIENCE_SECONDS)
    assert [r["text"] for r in first.requests + second.requests] == ["a red cat", "A RED CAT"]
    assert list(result.stages) == ["first", "second"]
    assert result.stages["second"].output == {"text": "A RED CAT!"}
    assert {report.status for report in result.stages.values()} == {StageStatus.SUCCEEDED}


async def test_parallel_branches_run_at_the_same_time_and_meet_by_name(chains: ChainWorld) -> None:
    left = await chains.serve("left", lambda *_: {"text": "L"})
    right = await chains.serve("right", lambda *_: {"text": "R"})
    join = await chains.serve("join", lambda request, _: request)
    left.hold = right.hold = True
    graph = ServiceGraph()
    for name in ("left", "right", "join"):
        graph = graph.add(chains.stage(name))
    graph = graph.flow_to("left", "join", {"one": "text"}).flow_to("right", "join", {"two": "text"})
    await chains.orchestrate(graph)
    async with chains.client() as client:
        job_id = await client.submit(PROMPT)
        await until(lambda: left.begun and right.begun, "both branches")
        left.hold = right.hold = False
        result = await client.result(job_id, PATIENCE_SECONDS)
    assert result.stages["join"].output == {"one": "L", "two": "R", "text": "a red cat"}
    assert sum(join.done.values()) == 1


async def test_a_failed_stage_fails_the_chain_with_what_was_done(chains: ChainWorld) -> None:
    await chains.serve("first")
    await chains.serve("second", failing)
    await chains.orchestrate(line(chains, "first", "second", "third"))
    async with chains.client() as client:
        with pytest.raises(JobFailed, match=r"stage 'second': it never works") as failed:
            await client.result(await client.submit(PROMPT), PATIENCE_SECONDS)
    stages = failed.value.result.stages  # type: ignore[attr-defined]
    assert stages["first"].output == {"text": "A RED CAT"}
    assert stages["second"].status is StageStatus.FAILED
    assert "third" not in stages


def failing(*_: Any) -> dict[str, Any]:
    raise GenerationFailed("it never works")


async def test_a_stage_is_tried_again_then_by_its_fallback(chains: ChainWorld) -> None:
    primary = await chains.serve("primary", failing)
    await chains.serve("other")
    policy = Policy(retries=2, fallback=chains.service("other"))
    await chains.orchestrate(ServiceGraph().add(chains.stage("primary", policy=policy)))
    async with chains.client() as client:
        result = await client.result(await client.submit(PROMPT), PATIENCE_SECONDS)
    assert sum(primary.begun.values()) == len(primary.begun) == 3
    assert result.stages["primary"].attempts == 4
    assert result.stages["primary"].service == chains.service("other")


@pytest.mark.parametrize(
    ("policy", "seen"),
    [
        (Policy(on_failure=OnFailure.SKIP), "a red cat"),
        (Policy(on_failure=OnFailure.SUBSTITUTE, substitute={"text": "instead"}), "instead"),
    ],
)
async def test_a_chain_goes_on_without_a_stage_or_with_its_substitute(
    chains: ChainWorld, policy: Policy, seen: str
) -> None:
    await chains.serve("first", failing)
    second = await chains.serve("second")
    graph = ServiceGraph().add(chains.stage("first", policy=policy)).add(chains.stage("second"))
    await chains.orchestrate(graph.flow_to("first", "second"))
    async with chains.client() as client:
        result = await client.result(await client.submit(PROMPT), PATIENCE_SECONDS)
    assert second.requests == [{"text": seen}]
    assert result.stages["first"].status.value.startswith(policy.on_failure.value[:4])
    assert "it never works" in result.stages["first"].error.detail


async def test_a_black_list_ends_the_chain_as_refused(chains: ChainWorld) -> None:
    verdict = {"text": "no swords, please", "downstream_black_list": [".*"]}
    await chains.serve("guardrail", lambda *_: verdict)
    second = await chains.serve("second")
    await chains.orchestrate(line(chains, "guardrail", "second"))
    async with chains.client() as client:
        with pytest.raises(JobFailed, match="no swords, please") as failed:
            await client.result(await client.submit(PROMPT), PATIENCE_SECONDS)
    result: Any = failed.value.result
    assert result.error.code is FailureCode.SAFETY_REFUSED
    assert result.stages["second"].status is StageStatus.NOT_TAKEN
    assert not second.begun


async def test_a_condition_chooses_the_branch(chains: ChainWorld) -> None:
    await chains.serve("judge", lambda *_: {"good": False, "text": "x"})
    good, bad = await chains.serve("good"), await chains.serve("bad")
    graph = ServiceGraph()
    for name in ("judge", "good", "bad"):
        graph = graph.add(chains.stage(name))
    graph = graph.flow_to("judge", "good", when={"good": True})
    await chains.orchestrate(graph.flow_to("judge", "bad", when={"good": False}))
    async with chains.client() as client:
        result = await client.result(await client.submit(PROMPT), PATIENCE_SECONDS)
    assert (sum(good.done.values()), sum(bad.done.values())) == (0, 1)
    assert result.stages["good"].reason == "the condition after judge does not hold"


async def test_what_is_not_as_wanted_is_made_again_with_another_seed(chains: ChainWorld) -> None:
    maker = await chains.serve("maker", lambda request, _: {"text": str(request["seed"])})
    await chains.serve("judge", lambda request, _: {"good": request["text"] == "8"})
    graph = line(chains, "maker", "judge").repeat(
        "maker", "judge", {"good": True}, vary={"seed": 1}
    )
    await chains.orchestrate(graph)
    request = MegaServiceRequest(prompt="x", parameters={"maker": {"seed": 7}})
    async with chains.client() as client:
        result = await client.result(await client.submit(request), PATIENCE_SECONDS)
        assert [each["seed"] for each in maker.requests] == [7, 8]
        assert result.stages["judge"].attempts == 2
        assert result.warnings == []
        request = MegaServiceRequest(prompt="x", parameters={"maker": {"seed": 1}})
        result = await client.result(await client.submit(request), PATIENCE_SECONDS)
    assert "still not as wanted after 2 times" in result.warnings[0]


async def test_a_cancelled_chain_stops_in_the_stage_that_it_is_in(chains: ChainWorld) -> None:
    await chains.serve("first")
    second = await chains.serve("second")
    second.hold = True
    await chains.orchestrate(line(chains, "first", "second"))
    async with chains.client() as client:
        job_id = await client.submit(PROMPT)
        await until(lambda: second.begun, "the second stage")
        await client.cancel(job_id)
        with pytest.raises(JobCancelled) as cancelled:
            await client.result(job_id, PATIENCE_SECONDS)
    result: Any = cancelled.value.result
    assert result.stages["first"].status is StageStatus.SUCCEEDED
    assert result.stages["second"].status is StageStatus.CANCELLED
    await until(lambda: second.stopped, "the stop of the stage's job")


async def test_the_deadline_of_a_chain_reaches_every_stage(chains: ChainWorld) -> None:
    first = await chains.serve("first")
    second = await chains.serve("second")
    second.hold = True
    await chains.orchestrate(line(chains, "first", "second"))
    async with chains.client() as client:
        job_id = await client.submit(PROMPT, deadline_seconds=1.5)
        with pytest.raises(JobExpired):
            await client.result(job_id, PATIENCE_SECONDS)
    deadlines = [each.context.deadline for each in first.invocations + second.invocations]
    assert None not in deadlines
    assert max(deadlines) - min(deadlines) < 0.1
    await until(lambda: second.stopped, "the stop of the stage's job")


async def test_a_stage_that_gives_no_answer_in_its_time_has_failed(chains: ChainWorld) -> None:
    slow = await chains.serve("slow")
    slow.hold = True
    policy = Policy(timeout_seconds=0.5)
    await chains.orchestrate(ServiceGraph().add(chains.stage("slow", policy=policy)))
    async with chains.client() as client:
        with pytest.raises(JobFailed, match=r"deadline_exceeded.*gave no answer in 0\.5 s"):
            await client.result(await client.submit(PROMPT), PATIENCE_SECONDS)
    await until(lambda: slow.stopped, "the stop of the stage's job")


async def test_a_stage_whose_service_nobody_serves_says_so(chains: ChainWorld) -> None:
    policy = Policy(timeout_seconds=0.5)
    await chains.orchestrate(ServiceGraph().add(chains.stage("nobody", policy=policy)))
    async with chains.client() as client:
        with pytest.raises(JobFailed, match=r"gave no answer in 0\.5 s: there is no queue"):
            await client.result(await client.submit(PROMPT), PATIENCE_SECONDS)
    node = await chains.serve("nobody")
    node.hold = True
    async with chains.client() as client:
        with pytest.raises(JobFailed, match=r"gave no answer in 0\.5 s: "):
            await client.result(await client.submit(PROMPT), PATIENCE_SECONDS)


async def test_a_rejected_picture_is_a_draft(chains: ChainWorld) -> None:
    await chains.serve("maker", lambda request, _: {"images": [picture(request["seed"])]})
    await chains.serve("judge", lambda request, _: {"good": request["seed"] == 8})
    graph = (
        ServiceGraph()
        .add(chains.stage("maker"))
        .add(chains.stage("judge"))
        .flow_to("maker", "judge", {"seed": "images.0.seed"})
        .repeat("maker", "judge", {"good": True}, vary={"seed": 1})
    )
    await chains.orchestrate(graph)
    request = MegaServiceRequest(prompt="x", parameters={"maker": {"seed": 7}})
    async with chains.client() as client:
        result = await client.result(await client.submit(request), PATIENCE_SECONDS)
    assert [image.seed for image in result.images] == [8]
    assert [image.seed for image in result.drafts] == [7]
    assert result.drafts[0].b64_json is not None
    assert result.stages["maker"].output["images"][0]["b64_json"] is None


def picture(seed: int) -> dict[str, Any]:
    """Make a picture as a service answers it."""
    return image(str(seed).encode()).model_copy(update={"seed": seed}).model_dump()


async def test_all_stages_tell_their_progress_in_one_stream_and_one_trace(
    chains: ChainWorld,
) -> None:
    services = [await chains.serve("first"), await chains.serve("second")]
    await chains.orchestrate(line(chains, "first", "second"))
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    async with chains.client() as client:
        job_id = await client.submit(PROMPT, headers=headers, watch=True)
        events = [event async for event in client.events(job_id)]
    told = [(e.stage, str(e.stage_event.event)) for e in events if isinstance(e, StageEvent)]
    assert told.index(("first", "succeeded")) < told.index(("second", "succeeded"))
    assert ("second", "progress") in told or ("second", "started") in told
    numbers = [event.sequence for event in events[:-1]]
    assert numbers == list(range(1, len(numbers) + 1))
    parents = [i.context.headers["traceparent"] for s in services for i in s.invocations]
    assert all(parent.split("-")[1] == trace for parent in parents)
    assert len({parent.split("-")[2] for parent in parents}) == 2


async def test_another_orchestrator_goes_on_without_repeating_what_was_confirmed(
    chains: ChainWorld, tmp_path: Path
) -> None:
    store = f"file://{tmp_path}/results"
    first, second = await chains.serve("first"), await chains.serve("second")
    second.hold = True
    graph = line(chains, "first", "second")
    one = await chains.orchestrate(graph, result_store=store)
    async with chains.client() as client:
        job_id = await client.submit(PROMPT)
        await until(lambda: second.begun, "the second stage")
        await one.kill()
        await chains.orchestrate(graph, result_store=store)
        second.hold = False
        result = await client.result(job_id, PATIENCE_SECONDS)
    assert result.stages["second"].output == {"text": "A RED CAT"}
    assert (sum(first.done.values()), sum(second.done.values())) == (1, 1)
    assert len(second.done) == 1


async def test_parameters_that_no_stage_would_read_are_refused(chains: ChainWorld) -> None:
    await chains.orchestrate(line(chains, "first", "second"))
    async with chains.client() as client:
        for parameters, why in (
            ({"third": {}}, "no stage 'third'; there are: first, second"),
            (
                {"second": {"text": "mine"}},
                "'text' of stage 'second' is what the prompt or another",
            ),
        ):
            request = MegaServiceRequest(prompt="x", parameters=parameters)
            with pytest.raises(JobFailed, match=why):
                await client.result(await client.submit(request), PATIENCE_SECONDS)


async def test_two_graphs_in_one_process_share_nothing(
    world: World, connect: Callable[[], Broker]
) -> None:
    one, other = ChainWorld(world, connect), ChainWorld(world, connect)
    for chains, answer in ((one, "1"), (other, "2")):
        await chains.serve("only", lambda *_, said=answer: {"text": said})
        await chains.orchestrate(line(chains, "only"))
    for chains, answer in ((one, "1"), (other, "2")):
        async with chains.client() as client:
            result = await client.result(await client.submit(PROMPT), PATIENCE_SECONDS)
            assert result.stages["only"].output == {"text": answer}
