"""A request becomes exactly one result, however it arrives."""

import asyncio
import json

from contracts.events import EVENT_ADAPTER
from contracts.result import Status
from contracts.text2image import Text2ImageRequest
from contracts.topology import Queue, Topology
from tests.fakes import ScriptedComponent
from tests.harness import World, until

PROMPT = {"prompt": "An astronaut riding a green horse"}


async def test_the_smallest_valid_body_is_answered(world: World) -> None:
    await world.node()
    caller = await world.caller()
    job_id = await caller.publish(PROMPT, correlation_id="mine")
    message = await caller.next_message()
    assert message.properties.type == "text2image.result"
    assert message.properties.correlation_id == "mine"
    assert message.properties.content_type == "application/json"
    document = json.loads(message.body)
    assert (document["job_id"], document["status"], document["error"]) == (
        job_id,
        "succeeded",
        None,
    )


async def test_requests_come_through_the_exchange_of_requests_as_well(world: World) -> None:
    await world.node()
    caller = await world.caller()
    await caller.publish(PROMPT, exchange="megaservice.requests")
    assert (await caller.next_result()).status is Status.SUCCEEDED


async def test_urgent_requests_have_a_queue_of_their_own(world: World) -> None:
    await world.node()
    caller = await world.caller()
    await caller.publish(PROMPT, routing_key="text2image.high", priority=9)
    assert (await caller.next_result()).status is Status.SUCCEEDED


async def test_an_opea_body_is_valid_as_it_is(world: World) -> None:
    await world.node()
    caller = await world.caller()
    opea = {
        "id": "5f8d9a0e6c1b4f0d8a7e3c2b1a0f9e8d",
        "prompt": "An astronaut riding a green horse",
        "num_inference_steps": 5,
        "guidance_scale": 7.5,
        "num_images_per_prompt": 1,
        "seed": 42,
        "negative_prompt": None,
        "height": None,
        "width": None,
        "lora_weight_name_or_path": None,
    }
    await caller.publish(opea)
    assert (await caller.next_result()).status is Status.SUCCEEDED


async def test_without_reply_to_the_result_is_kept(world: World) -> None:
    await world.node()
    caller = await world.caller()
    job_id = await caller.publish(PROMPT, answered=False)
    (kept,) = await world.kept_results(1)
    assert kept.routing_key == f"text2image.{job_id}"
    assert json.loads(kept.body)["status"] == "succeeded"


async def test_a_reply_to_that_does_not_exist_loses_nothing(world: World) -> None:
    await world.node()
    caller = await world.caller()
    job_id = await caller.publish(PROMPT, reply_to="no-such-queue")
    (kept,) = await world.kept_results(1)
    assert json.loads(kept.body)["job_id"] == job_id
    await caller.publish(PROMPT)
    assert (await caller.next_result()).status is Status.SUCCEEDED


async def test_trace_context_and_cloudevents_are_carried_through(world: World) -> None:
    await world.node()
    caller = await world.caller()
    headers = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "cloudEvents_source": "x"}
    await caller.publish(PROMPT, headers={**headers, "x-other": "dropped"})
    carried = (await caller.next_message()).properties.headers
    assert {name: carried.get(name) for name in headers} == headers
    assert "x-other" not in carried


async def test_the_same_id_twice_is_one_generation_and_the_same_result_twice(world: World) -> None:
    component = ScriptedComponent(free_running=False)
    await world.node(component, look_ahead=3)
    caller = await world.caller()
    await caller.publish(PROMPT, message_id="twice", correlation_id="first")
    await caller.publish(PROMPT, message_id="twice", correlation_id="second")
    await component.started()
    component.free_running = True
    messages = [await caller.next_message(), await caller.next_message()]
    assert {m.properties.correlation_id for m in messages} == {"first", "second"}
    assert messages[0].body == messages[1].body
    await caller.publish(PROMPT, message_id="twice", correlation_id="late")
    assert (await caller.next_message()).body == messages[0].body
    assert component.invocations == ["twice"]


async def test_the_same_id_with_another_body_is_a_conflict(world: World) -> None:
    await world.node()
    caller = await world.caller()
    await caller.publish(PROMPT, message_id="one-id")
    await caller.next_result()
    await caller.publish({"prompt": "something else"}, message_id="one-id")
    result = await caller.next_result()
    assert result.error is not None
    assert result.error.code == "conflict"
    (dead,) = await world.dead_letters(1)
    assert dead.properties.headers["x-dead-code"] == "conflict"


async def test_a_conflicting_copy_does_not_disturb_the_events_of_the_job(world: World) -> None:
    events = await world.events()
    component = ScriptedComponent(free_running=False)
    await world.node(component)
    caller = await world.caller()
    await caller.publish(PROMPT, message_id="good")
    await component.started()
    await caller.publish({"prompt": "something else"}, message_id="good")
    conflict = await caller.next_result()
    assert conflict.error is not None
    component.free_running = True
    assert (await caller.next_result()).status is Status.SUCCEEDED
    kinds = []
    while "succeeded" not in kinds:
        kinds.append(json.loads((await asyncio.wait_for(events.get(), 10)).body)["event"])
    assert "failed" not in kinds


async def test_events_tell_the_life_of_a_job_in_order(world: World) -> None:
    events = await world.events()
    await world.node()
    caller = await world.caller()
    job_id = await caller.publish({**PROMPT, "num_inference_steps": 7})
    await caller.next_result()
    told = []
    while not told or told[-1].event != "succeeded":
        message = await asyncio.wait_for(events.get(), 10)
        told.append(EVENT_ADAPTER.validate_json(message.body))
        assert message.routing_key == f"text2image.{job_id}.{told[-1].event}"
    assert [event.event for event in told[:3]] == ["accepted", "started", "progress"]
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    last_progress = [event for event in told if event.event == "progress"][-1]
    assert (last_progress.step, last_progress.fraction) == (7, 1.0)


async def test_a_client_sees_progress_and_one_result(world: World) -> None:
    await world.node()
    client = await world.client()
    job_id = await client.submit(Text2ImageRequest(prompt="a cat"), watch=True)
    kinds = [str(event.event) async for event in client.events(job_id)]
    assert kinds[0] == "accepted"
    assert kinds[-1] == "succeeded"
    assert (await client.result(job_id, 10)).status is Status.SUCCEEDED


async def test_urgent_jobs_overtake_waiting_ones(world: World) -> None:
    component = ScriptedComponent(free_running=False)
    handle = await world.node(component, look_ahead=5)
    caller = await world.caller()
    await caller.publish(PROMPT, message_id="running")
    await component.started()
    await caller.publish(PROMPT, message_id="waiting")
    await caller.publish(PROMPT, message_id="urgent", priority=7, routing_key="text2image.high")
    await until(lambda: handle.node.worker.waiting() == 2, "two waiting jobs")
    component.free_running = True
    order = [(await caller.next_result()).job_id for _ in range(3)]
    assert order == ["running", "urgent", "waiting"]


async def test_a_crash_of_the_component_is_retried_and_then_succeeds(world: World) -> None:
    crashes = iter([RuntimeError("a passing fault")])

    def script(*_: object) -> None:
        if (error := next(crashes, None)) is not None:
            raise error

    component = ScriptedComponent(script=script)
    await world.node(component)
    caller = await world.caller()
    await caller.publish(PROMPT, message_id="second-try")
    result = await caller.next_result()
    assert result.status is Status.SUCCEEDED
    assert component.invocations == ["second-try", "second-try"]


async def test_a_full_reply_queue_stalls_nobody(world: World) -> None:
    await world.node()
    broker = await world.broker()
    full = Queue(
        "full-replies",
        {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"},
    )
    await broker.apply(Topology((), (full,), ()))
    caller = await world.caller()
    for _ in range(5):
        await caller.publish(PROMPT, reply_to="full-replies")
    await caller.publish(PROMPT)
    assert (await caller.next_result()).status is Status.SUCCEEDED
    kept = await world.kept_results(3)
    assert all(json.loads(message.body)["status"] == "succeeded" for message in kept)
