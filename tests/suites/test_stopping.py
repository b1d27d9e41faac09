"""Cancel, deadlines, drain and death: every job still ends in exactly one result."""

import asyncio
import time

import pytest

from contracts.message import format_time
from contracts.result import Status
from contracts.text2image import Text2ImageRequest
from node.errors import BrokerUnavailable, JobCancelled, JobExpired
from tests.fakes import ScriptedComponent
from tests.harness import World, until

PROMPT = {"prompt": "An astronaut riding a green horse"}
REQUEST = Text2ImageRequest(prompt="An astronaut riding a green horse")


async def test_a_running_job_stops_before_its_next_step_when_cancelled(world: World) -> None:
    component = ScriptedComponent(free_running=False)
    await world.node(component)
    client = await world.client()
    job_id = await client.submit(REQUEST)
    await component.started()
    component.step(2)
    await until(lambda: component.steps_seen[job_id] == 2, "two steps")
    await client.cancel(job_id)
    with pytest.raises(JobCancelled) as raised:
        await client.result(job_id, 10)
    assert raised.value.result.error.code == "cancelled"
    assert component.steps_seen[job_id] == 2
    component.free_running = True
    assert (await client.result(await client.submit(REQUEST), 10)).status is Status.SUCCEEDED


async def test_a_waiting_job_is_cancelled_at_once_and_never_runs(world: World) -> None:
    component = ScriptedComponent(free_running=False)
    handle = await world.node(component)
    client = await world.client()
    first = await client.submit(REQUEST)
    await component.started()
    second = await client.submit(REQUEST)
    await until(lambda: handle.node.worker.waiting() == 1, "a waiting job")
    await client.cancel(second)
    with pytest.raises(JobCancelled):
        await client.result(second, 10)
    component.free_running = True
    await client.result(first, 10)
    assert component.invocations == [first]


async def test_a_cancel_may_overtake_its_job(world: World) -> None:
    component = ScriptedComponent()
    handle = await world.node(component)
    client = await world.client()
    await client.cancel("not-yet-there")
    await until(lambda: handle.node.worker.knows_cancelled("not-yet-there"), "the tombstone")
    with pytest.raises(JobCancelled):
        await client.result(await client.submit(REQUEST, job_id="not-yet-there"), 10)
    assert component.invocations == []


async def test_a_cancel_after_the_end_changes_nothing(world: World) -> None:
    await world.node()
    client = await world.client()
    job_id = await client.submit(REQUEST)
    await client.result(job_id, 10)
    await client.cancel(job_id)
    caller = await world.caller()
    await caller.publish(REQUEST.to_json(), message_id=job_id)
    assert (await caller.next_result()).status is Status.SUCCEEDED


async def test_a_request_past_its_deadline_never_starts(world: World) -> None:
    component = ScriptedComponent()
    await world.node(component)
    client = await world.client()
    with pytest.raises(JobExpired) as raised:
        await client.result(await client.submit(REQUEST, deadline_seconds=-1), 10)
    assert raised.value.result.error.code == "deadline_exceeded"
    assert component.invocations == []


async def test_a_running_job_stops_at_its_deadline(world: World) -> None:
    component = ScriptedComponent(free_running=False)
    await world.node(component)
    client = await world.client()
    job_id = await client.submit(REQUEST, deadline_seconds=1)
    await component.started()
    with pytest.raises(JobExpired):
        await client.result(job_id, 10)
    assert component.finished == []


async def test_a_waiting_job_expires_without_waiting_for_its_turn(world: World) -> None:
    component = ScriptedComponent(free_running=False)
    await world.node(component)
    client = await world.client()
    await client.submit(REQUEST)
    await component.started()
    with pytest.raises(JobExpired):
        await client.result(await client.submit(REQUEST, deadline_seconds=0.5), 10)
    assert len(component.invocations) == 1


async def test_a_request_that_expired_in_the_queue_is_answered(world: World) -> None:
    caller = await world.caller()
    job_id = await caller.publish(PROMPT, expiration_seconds=0.05, timestamp=time.time())
    await asyncio.sleep(0.3)
    await world.node()
    result = await caller.next_result()
    assert (result.job_id, result.status) == (job_id, Status.EXPIRED)
    (dead,) = await world.dead_letters(1)
    assert dead.properties.message_id == job_id
    assert await caller.silent_for(0.3)


async def test_the_deadline_header_is_absolute(world: World) -> None:
    await world.node()
    caller = await world.caller()
    past = format_time(time.time() - 1)
    await caller.publish(PROMPT, headers={"cloudEvents_expirytime": past})
    assert (await caller.next_result()).status is Status.EXPIRED


async def test_drain_finishes_what_runs_and_gives_back_what_waits(world: World) -> None:
    component = ScriptedComponent(free_running=False)
    handle = await world.node(component)
    caller = await world.caller()
    await caller.publish(PROMPT, message_id="running")
    await component.started()
    await caller.publish(PROMPT, message_id="waiting")
    await until(lambda: handle.node.worker.waiting() == 1, "a waiting job")
    handle.node.stop()
    await until(lambda: handle.node.worker.waiting() == 0, "the waiting job to be given back")
    component.free_running = True
    await asyncio.wait_for(handle.task, 10)
    assert (await caller.next_result()).job_id == "running"
    assert component.invocations == ["running"]
    await world.node()
    assert (await caller.next_result()).job_id == "waiting"


async def test_past_the_grace_a_running_job_is_handed_to_another_node(world: World) -> None:
    component = ScriptedComponent(free_running=False)
    handle = await world.node(component, grace_seconds=0.2)
    caller = await world.caller()
    await caller.publish(PROMPT, message_id="handed-over")
    await component.started()
    await handle.stop()
    other = ScriptedComponent()
    await world.node(other)
    result = await caller.next_result()
    assert (result.job_id, result.status) == ("handed-over", Status.SUCCEEDED)
    assert other.finished == ["handed-over"]
    assert component.finished == []


async def test_a_second_stop_ends_the_grace(world: World) -> None:
    component = ScriptedComponent(free_running=False)
    handle = await world.node(component, grace_seconds=3600)
    caller = await world.caller()
    await caller.publish(PROMPT)
    await component.started()
    handle.node.stop()
    handle.node.stop()
    await asyncio.wait_for(handle.task, 10)
    await world.node()
    assert (await caller.next_result()).status is Status.SUCCEEDED


async def test_a_node_that_dies_loses_nothing_and_the_result_comes_once(world: World) -> None:
    component = ScriptedComponent(free_running=False)
    handle = await world.node(component)
    caller = await world.caller()
    await caller.publish(PROMPT, message_id="survivor")
    await component.started()
    component.step()
    await until(lambda: component.steps_seen["survivor"] == 1, "a step")
    await handle.kill()
    await world.node()
    result = await caller.next_result()
    assert (result.job_id, result.status) == ("survivor", Status.SUCCEEDED)
    assert await caller.silent_for(0.5)


async def test_a_request_that_no_node_survives_ends_in_the_dead_letter_queue(world: World) -> None:
    caller = await world.caller()
    await caller.publish(PROMPT, message_id="poison")
    for _ in range(6):
        component = ScriptedComponent(free_running=False)
        handle = await world.node(component)
        await component.started()
        await handle.kill()
    await world.node()
    result = await caller.next_result()
    assert result.error is not None
    assert (result.status, result.error.code) == (Status.FAILED, "attempts_exhausted")
    (dead,) = await world.dead_letters(1)
    assert dead.properties.message_id == "poison"


async def test_what_comes_during_drain_goes_back_without_being_counted(world: World) -> None:
    component = ScriptedComponent(free_running=False)
    handle = await world.node(component, look_ahead=8)
    caller = await world.caller()
    await caller.publish(PROMPT, message_id="running")
    await component.started()
    handle.node.stop()
    late = [await caller.publish(PROMPT) for _ in range(12)]
    component.free_running = True
    await asyncio.wait_for(handle.task, 10)
    await world.node()
    results = [await caller.next_result() for _ in range(13)]
    assert {result.status for result in results} == {Status.SUCCEEDED}
    assert {result.job_id for result in results} == {"running", *late}


async def test_answers_that_cannot_be_given_do_not_keep_a_node_from_stopping(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.worker.LAST_ANSWERS_SECONDS", 0.2)
    component = ScriptedComponent()
    handle = await world.node(component, grace_seconds=0.1)
    caller = await world.caller()

    async def refuse(_: object) -> None:
        raise BrokerUnavailable("publishers are blocked")

    monkeypatch.setattr(handle.node.broker.outbox, "publish", refuse)
    await caller.publish(PROMPT, message_id="unanswered")
    await until(lambda: component.finished == ["unanswered"], "the job")
    await handle.stop()
    monkeypatch.undo()
    await world.node()
    assert (await caller.next_result()).job_id == "unanswered"
