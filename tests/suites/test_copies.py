"""Copies of one request, at different points of their lives, come to one end together.

Found by the search in `tests/properties`, which replays each case in no time.
"""

import asyncio
from typing import Any

import pytest

from contracts.failure import FailureCode
from contracts.result import JobResult
from node.component import Invocation
from node.errors import JobCancelled
from tests.fakes import ScriptedComponent
from tests.harness import Caller, NodeHandle, World, until

PROMPT = {"prompt": "An astronaut riding a green horse"}
KILLS_UNTIL_GIVEN_UP = 6


class Crashing(ScriptedComponent):
    """Crashes at its end, and does not look whether it was told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()

    async def invoke(self, request: Any, invocation: Invocation) -> JobResult:
        self.invocations.append(invocation.job_id)
        self._started.set()
        await self.released.wait()
        raise RuntimeError("scripted to crash")


async def result_of(caller: Caller, correlation_id: str) -> JobResult:
    """Wait for the result of one copy."""
    while True:
        message = await caller.next_message()
        if message.properties.correlation_id == correlation_id:
            return ScriptedComponent.result_model.model_validate_json(message.body)


def deliveries(handle: NodeHandle) -> float:
    """Count what a node was handed."""
    registry = handle.node._metrics.registry
    counts = [
        registry.get_sample_value("text2image_node_deliveries_total", {"redelivered": redelivered})
        for redelivered in ("false", "true")
    ]
    return sum(count or 0.0 for count in counts)


async def test_what_the_broker_gave_up_is_answered_while_a_copy_of_it_still_runs(
    world: World,
) -> None:
    caller = await world.caller()
    for copy in ("first", "second"):
        await caller.publish(PROMPT, message_id="poison", correlation_id=copy)
    for _ in range(KILLS_UNTIL_GIVEN_UP):
        component = ScriptedComponent(free_running=False)
        handle = await world.node(component, look_ahead=0)
        await component.started()
        await handle.kill()
    await world.node(ScriptedComponent(free_running=False), look_ahead=0)
    result = await result_of(caller, "first")
    assert result.error is not None
    assert result.error.code is FailureCode.ATTEMPTS_EXHAUSTED


async def test_a_job_that_crashes_after_its_cancel_is_cancelled_and_not_tried_again(
    world: World,
) -> None:
    component = Crashing()
    handle = await world.node(component)
    client = await world.client()
    job_id = await client.submit(ScriptedComponent.request_model(**PROMPT))
    await component.started()
    await client.cancel(job_id)
    await until(lambda: handle.node.worker._running[job_id].cancelled, "the cancel")
    component.released.set()
    with pytest.raises(JobCancelled):
        await client.result(job_id, 10)
    assert component.invocations == [job_id]


async def test_copies_at_different_attempts_end_as_the_one_that_was_tried_most(
    world: World,
) -> None:
    component = Crashing()
    handle = await world.node(component, look_ahead=1)
    caller = await world.caller()
    await caller.publish(PROMPT, message_id="twice", correlation_id="fresh")
    await component.started()
    headers = {"x-attempt": 4}
    await caller.publish(PROMPT, message_id="twice", correlation_id="tried", headers=headers)
    await until(lambda: deliveries(handle) == 2, "the second copy")
    component.released.set()
    results = [await caller.next_result() for _ in range(2)]
    assert {r.error.code for r in results if r.error} == {FailureCode.ATTEMPTS_EXHAUSTED}
    assert component.invocations == ["twice"]
