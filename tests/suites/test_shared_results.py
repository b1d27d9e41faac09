"""Nodes that share results do a job once, whichever of them its copies reach."""

import asyncio
from pathlib import Path

import pytest

from contracts.result import Status
from tests.fakes import ScriptedComponent
from tests.harness import World, until

PROMPT = {"prompt": "An astronaut riding a green horse"}


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"file://{tmp_path}/results"


async def test_copies_on_two_nodes_give_one_generation_and_the_same_bytes(
    world: World, store: str
) -> None:
    one, other = ScriptedComponent(free_running=False), ScriptedComponent(free_running=False)
    for component in (one, other):
        await world.node(component, result_store=store, look_ahead=0)
    caller = await world.caller()
    for _ in range(2):
        await caller.publish(PROMPT, message_id="twice")
    await until(lambda: one.invocations or other.invocations, "the generation")
    await asyncio.sleep(0.3)  # time enough for a second one to begin
    one.free_running = other.free_running = True
    first, second = await caller.next_message(), await caller.next_message()
    assert first.body == second.body
    assert one.invocations + other.invocations == ["twice"]


async def test_a_copy_after_the_end_is_answered_by_a_node_that_never_saw_the_job(
    world: World, store: str
) -> None:
    first = await world.node(result_store=store)
    caller = await world.caller()
    await caller.publish(PROMPT, message_id="again")
    before = await caller.next_message()
    await first.stop()
    component = ScriptedComponent()
    await world.node(component, result_store=store)
    await caller.publish(PROMPT, message_id="again")
    assert (await caller.next_message()).body == before.body
    assert component.invocations == []


async def test_another_body_under_an_id_that_another_node_finished_is_a_conflict(
    world: World, store: str
) -> None:
    first = await world.node(result_store=store)
    caller = await world.caller()
    await caller.publish(PROMPT, message_id="used")
    await caller.next_result()
    await first.stop()
    await world.node(result_store=store)
    await caller.publish({"prompt": "a cat"}, message_id="used")
    result = await caller.next_result()
    assert result.error is not None
    assert result.error.code == "conflict"


async def test_a_job_of_a_node_that_died_is_done_by_another_once_its_claim_lapsed(
    world: World, store: str
) -> None:
    dying = ScriptedComponent(free_running=False)
    handle = await world.node(dying, result_store=store)
    caller = await world.caller()
    job_id = await caller.publish(PROMPT)
    await dying.started()
    await handle.kill()
    component = ScriptedComponent()
    await world.node(component, result_store=store)
    result = await caller.next_result()
    assert (result.job_id, result.status) == (job_id, Status.SUCCEEDED)
    assert component.finished == [job_id]


async def test_a_cancel_reaches_a_copy_that_waits_for_another_node(
    world: World, store: str
) -> None:
    one, other = ScriptedComponent(free_running=False), ScriptedComponent(free_running=False)
    nodes = [await world.node(each, result_store=store, look_ahead=0) for each in (one, other)]
    caller = await world.caller()
    client = await world.client()
    for _ in range(2):
        await caller.publish(PROMPT, message_id="unwanted")
    await until(lambda: all(n.node.worker.busy() + n.node.worker.waiting() for n in nodes), "both")
    await client.cancel("unwanted")
    results = [await caller.next_result() for _ in range(2)]
    assert {result.status for result in results} == {Status.CANCELLED}
    assert one.finished + other.finished == []


async def test_nodes_work_on_while_the_store_is_away(world: World, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("not a folder")
    component = ScriptedComponent()
    await world.node(component, result_store=f"file://{tmp_path}/a-file/results")
    caller = await world.caller()
    for _ in range(2):
        await caller.publish(PROMPT, message_id="alone")
        assert (await caller.next_result()).status is Status.SUCCEEDED
    assert component.finished == ["alone"]
