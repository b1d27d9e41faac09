"""Jobs over HTTP: whatever is in front of the broker, a job becomes exactly one result."""

import asyncio
import base64
from pathlib import Path

import pytest

from contracts import examples
from contracts.text2image import Text2ImageRequest
from orchestrator_example.gateway import carrier
from orchestrator_example.gateway.keys_file import new_key
from tests.gateways import PROMPT, GatewayWorld, Painter, waiting_jobs
from tests.harness import PATIENCE_SECONDS, SERVICE, World, until


async def test_a_job_is_taken_and_found_until_it_has_its_result(
    world: World, gateways: GatewayWorld
) -> None:
    await world.node(Painter())
    _, caller = await gateways.gateway()
    answer = await caller.submit()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    job = await caller.ended(answer.headers["location"])
    assert (job["status"], job["service"], job["error"]) == ("succeeded", SERVICE, None)
    image = job["result"]["images"][0]
    assert image["b64_json"] == examples.IMAGE["b64_json"]
    assert (job["queue_position"], job["eta_seconds"], job["progress"]) == (None, None, None)


async def test_the_result_is_the_one_that_the_node_sent(
    world: World, gateways: GatewayWorld
) -> None:
    await world.node(Painter())
    client = await world.client()
    _, caller = await gateways.gateway()
    address = await caller.submitted({**PROMPT, "metadata": {"mine": "7"}})
    mine = (await caller.ended(address))["result"]
    request = Text2ImageRequest(prompt=PROMPT["prompt"], metadata={"mine": "7"})
    # The same id with the same body: the node answers with what it answered before.
    job_id = await client.submit(request, job_id=address.rsplit("/", 1)[1])
    theirs = (await client.result(job_id, PATIENCE_SECONDS)).model_dump(mode="json")
    assert mine == theirs


async def test_places_and_times_go_down_while_jobs_wait(
    world: World, gateways: GatewayWorld, painter: Painter
) -> None:
    await world.node(painter, look_ahead=0)
    _, caller = await gateways.gateway(instances=1)
    painter.free_running = True
    await caller.ended(await caller.submitted())
    painter.free_running = False
    await caller.submitted()
    await until(lambda: len(painter.invocations) == 2, "the job that the others wait for")
    addresses = [await caller.submitted() for _ in range(3)]
    places = [(await caller.job(each))["queue_position"] for each in addresses]
    assert places == [0, 1, 2]
    last = addresses[-1]
    before = await caller.job_once(last, lambda view: view["eta_seconds"] is not None, "an ETA")
    for place in (1, 0):
        painter.step(4)
        view = await caller.job_once(last, lambda v, p=place: v["queue_position"] == p, "its place")
        assert view["status"] == "queued"
        assert view["eta_seconds"] <= before["eta_seconds"]
        before = view
    painter.free_running = True
    assert (await caller.ended(last))["queue_position"] is None


async def test_a_running_job_tells_how_far_it_is(
    world: World, gateways: GatewayWorld, painter: Painter
) -> None:
    await world.node(painter)
    _, caller = await gateways.gateway()
    address = await caller.submitted()
    painter.step(2)
    view = await caller.job_once(address, lambda v: v["progress"], "progress")
    assert view["status"] == "running"
    assert view["progress"]["num_inference_steps"] == 4
    painter.free_running = True
    assert (await caller.ended(address))["progress"] is None


async def test_a_running_job_is_cancelled(
    world: World, gateways: GatewayWorld, painter: Painter
) -> None:
    await world.node(painter)
    _, caller = await gateways.gateway()
    address = await caller.submitted()
    await painter.started()
    answer = await caller.http.delete(address)
    assert (answer.status_code, answer.json()["cancel_requested"]) == (202, True)
    assert (await caller.ended(address))["status"] == "cancelled"
    assert painter.finished == []
    again = await caller.http.delete(address)
    assert (again.status_code, again.json()["status"]) == (202, "cancelled")


async def test_a_queued_job_is_cancelled_and_never_runs(
    world: World, gateways: GatewayWorld, painter: Painter
) -> None:
    await world.node(painter, look_ahead=0)
    _, caller = await gateways.gateway()
    first = await caller.submitted()
    await painter.started()
    queued = await caller.submitted()
    await caller.http.delete(queued)
    painter.free_running = True
    assert (await caller.ended(queued))["status"] == "cancelled"
    assert (await caller.ended(first))["status"] == "succeeded"
    assert painter.invocations == painter.finished == [first.rsplit("/", 1)[1]]


async def test_a_job_that_was_cancelled_before_any_node_came_is_not_done(
    world: World, gateways: GatewayWorld, painter: Painter
) -> None:
    _, caller = await gateways.gateway()
    address = await caller.submitted()
    await caller.http.delete(address)
    assert (await caller.job(address))["status"] == "queued"
    await world.node(painter)
    assert (await caller.ended(address))["status"] == "cancelled"
    assert painter.finished == []


async def test_a_key_makes_many_calls_one_job(
    world: World, gateways: GatewayWorld, painter: Painter
) -> None:
    broker = await world.broker()
    gateway, caller = await gateways.gateway()
    answers = await asyncio.gather(*(caller.submit(key="once") for _ in range(50)))
    assert {each.status_code for each in answers} == {202}
    assert len({each.headers["location"] for each in answers}) == 1
    await waiting_jobs(gateway, 1)
    assert (await broker.depth(SERVICE)).messages == 1
    await world.node(painter)
    painter.free_running = True
    address = answers[0].headers["location"]
    await caller.ended(address)
    late = await caller.submit(key="once")
    assert (late.headers["location"], late.json()["status"]) == (address, "succeeded")
    assert len(painter.invocations) == 1


async def test_a_key_with_another_request_is_a_conflict(
    world: World, gateways: GatewayWorld
) -> None:
    await world.node(Painter())
    _, caller = await gateways.gateway()
    address = (await caller.submit(key="mine")).headers["location"]
    other = await caller.submit({"prompt": "something else"}, key="mine")
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    assert (await caller.ended(address))["status"] == "succeeded"


async def test_jobs_are_listed_the_latest_first_without_their_pictures(
    world: World, gateways: GatewayWorld
) -> None:
    await world.node(Painter())
    _, caller = await gateways.gateway()
    addresses = [await caller.submitted() for _ in range(3)]
    for each in addresses:
        await caller.ended(each)
    jobs = (await caller.http.get("/v1/jobs")).json()["jobs"]
    assert [f"/v1/jobs/{job['id']}" for job in jobs] == addresses[::-1]
    assert {(job["status"], job["result"]) for job in jobs} == {("succeeded", None)}


async def test_pictures_are_files_for_who_has_the_key_or_the_link(
    world: World, gateways: GatewayWorld, tmp_path: Path
) -> None:
    token, entry = new_key("painter-lover")
    (tmp_path / "keys.yaml").write_text(f"keys:\n{entry}")
    await world.node(Painter())
    gateway, stranger = await gateways.gateway(keys_file=tmp_path / "keys.yaml")
    caller = await gateways.caller(gateway, token)
    address = await caller.submitted()
    (link,) = (await caller.ended(address))["image_urls"]
    file = base64.b64decode(examples.IMAGE["b64_json"])
    by_key = await caller.http.get(f"{address}/images/0")
    assert (by_key.status_code, by_key.content) == (200, file)
    assert by_key.headers["content-type"] == "image/png"
    by_link = await stranger.http.get(link)
    assert (by_link.status_code, by_link.content) == (200, file)
    assert (await stranger.http.get(f"{address}/images/0")).status_code == 401
    assert (await caller.http.get(f"{address}/images/1")).status_code == 404
    for forged in (link[:-1] + ("0" if link[-1] != "0" else "1"), link.replace("/0?", "/1?")):
        refused = await stranger.http.get(forged)
        assert (refused.status_code, refused.json()["code"]) == (403, "link_expired")


async def test_a_link_works_for_a_while(world: World, gateways: GatewayWorld) -> None:
    await world.node(Painter())
    _, caller = await gateways.gateway(link_seconds=0.001)
    (link,) = (await caller.ended(await caller.submitted()))["image_urls"]
    refused = await caller.http.get(link)
    assert refused.status_code == 403
    assert "worked for a while" in refused.json()["detail"]


async def test_services_are_listed_with_their_schemas_and_who_is_there(
    world: World, gateways: GatewayWorld
) -> None:
    await world.node(Painter())
    _, caller = await gateways.gateway(instances=1)
    (service,) = (await caller.http.get("/v1/services")).json()["services"]
    assert (service["name"], service["instances"]) == (SERVICE, 1)
    assert "prompt" in service["request_schema"]["properties"]


async def test_a_job_that_nobody_does_in_time_expires(
    gateways: GatewayWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier, "LATE_SECONDS", 0.2)
    _, caller = await gateways.gateway()
    address = await caller.submitted(deadline_seconds=0.1)
    job = await caller.ended(address)
    assert (job["status"], job["error"]["code"]) == ("expired", "deadline_exceeded")
    assert [each.event for each in await caller.all_events(address)] == ["expired"]
