"""A node that cannot work any more says so, hands everything back, and ends to start anew."""

import asyncio
from typing import Any

import pytest

from contracts.discovery import NodeState
from contracts.result import Status
from node.app import SystemClock
from node.discovery.directory import ServiceDirectory
from node.errors import NodeUnfit
from node.tasks import running
from tests.fakes import ScriptedComponent
from tests.harness import NodeHandle, World, until

PROMPT = {"prompt": "An astronaut riding a green horse"}


def crash(*_: Any) -> None:
    raise RuntimeError("the device fell off the bus")


class Hanging(ScriptedComponent):
    """Gives no sign of life, as a thread that hangs in a driver."""

    async def invoke(self, request: Any, invocation: Any) -> Any:
        self.invocations.append(invocation.job_id)
        await asyncio.Event().wait()


async def ended_unfit(handle: NodeHandle, why: str) -> None:
    with pytest.raises(NodeUnfit, match=why):
        await asyncio.wait_for(handle.task, 20)


async def test_jobs_that_fail_in_a_row_end_a_node_and_another_one_does_them(world: World) -> None:
    sick = await world.node(ScriptedComponent(script=crash), max_failed_jobs=2)
    caller = await world.caller()
    sent = {await caller.publish(PROMPT) for _ in range(4)}
    await ended_unfit(sick, "2 jobs in a row failed; the last: .*fell off the bus")
    await world.node()
    results = [await caller.next_result() for _ in sent]
    assert {result.job_id for result in results} == sent
    assert {result.status for result in results} == {Status.SUCCEEDED}


async def test_a_job_that_hangs_ends_its_node_and_is_tried_again_elsewhere(world: World) -> None:
    sick = await world.node(Hanging(), stall_seconds=0.3)
    caller = await world.caller()
    job_id = await caller.publish(PROMPT)
    await ended_unfit(sick, "no sign of life for 0.3 s")
    healthy = ScriptedComponent()
    await world.node(healthy)
    result = await caller.next_result()
    assert (result.job_id, result.status) == (job_id, Status.SUCCEEDED)
    assert healthy.finished == [job_id]


async def test_other_jobs_of_a_node_that_hangs_are_handed_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.worker.LAST_ANSWERS_SECONDS", 0.2)
    sick = await world.node(Hanging(), stall_seconds=0.5, slots=2)
    caller = await world.caller()
    first = await caller.publish(PROMPT)
    await until(lambda: first in sick.component.invocations, "the first job")
    await asyncio.sleep(0.2)  # so that only the first one stalls
    second = await caller.publish(PROMPT)
    await ended_unfit(sick, "no sign of life")
    await world.node()
    results = {(await caller.next_result()).job_id for _ in range(2)}
    assert results == {first, second}


async def test_an_unfit_node_is_not_ready_and_shows_itself_as_unhealthy(world: World) -> None:
    broker = await world.broker()
    directory = ServiceDirectory(broker, SystemClock())
    async with running(directory=directory.run()):
        sick = await world.node(
            ScriptedComponent(script=crash), max_failed_jobs=1, restart_delay_seconds=30.0
        )
        caller = await world.caller()
        await caller.publish(PROMPT)

        def shown() -> list[tuple[NodeState, str | None]]:
            return [(s.metadata.state, s.metadata.state_reason) for s in directory.services()]

        await until(lambda: any(state is NodeState.UNHEALTHY for state, _ in shown()), "unhealthy")
        ((_, reason),) = shown()
        assert reason is not None
        assert "the device fell off the bus" in reason
        assert any("unhealthy: 1 jobs in a row" in r for r in sick.node.reasons_not_ready())
        sick.node.stop()
        await asyncio.wait_for(sick.task, 20)


async def test_a_request_that_always_fails_ends_and_takes_no_node_with_it(world: World) -> None:
    def fail_one(request: Any, _: Any) -> None:
        if request.prompt == "poison":
            raise RuntimeError("not with this one")

    handle = await world.node(ScriptedComponent(script=fail_one), max_failed_jobs=2)
    caller = await world.caller()
    await caller.publish({"prompt": "poison"}, headers={"x-attempt": 4})
    result = await caller.next_result()
    assert result.error is not None
    assert result.error.code == "attempts_exhausted"
    await caller.publish(PROMPT)
    assert (await caller.next_result()).status is Status.SUCCEEDED
    assert not handle.node.reasons_not_ready()
