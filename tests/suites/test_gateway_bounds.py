"""What the gateway refuses, and how much it bears and remembers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from contracts.megaservice import MegaServiceRequest, MegaServiceResult
from contracts.service import ServiceContract
from contracts.text2image import Text2ImageRequest, Text2ImageResult
from contracts.topology import service_topology
from node.errors import InvalidRequest
from node.ports import Broker
from orchestrator_example.gateway import desk
from tests.chains import ChainWorld
from tests.gateways import OPEA, PROMPT, SYNC_DOORS, GatewayWorld, Painter, waiting_jobs
from tests.harness import SERVICE, World, until


@pytest.mark.parametrize("deadline", [0, -1, 1e300, "Infinity", "NaN"])
async def test_a_deadline_that_no_calendar_has_is_refused(
    gateways: GatewayWorld, deadline: Any
) -> None:
    _, caller = await gateways.gateway()
    text = json.dumps({"request": PROMPT, "deadline_seconds": "?"}).replace('"?"', str(deadline))
    answer = await caller.http.post(
        "/v1/jobs", content=text, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert "deadline_seconds" in answer.json()["detail"]


async def test_what_is_unknown_is_not_found(gateways: GatewayWorld) -> None:
    _, caller = await gateways.gateway()
    unknown = await caller.submit(service="text2musik")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "service_unknown")
    assert SERVICE in unknown.json()["detail"]
    for method, path in (
        ("GET", "/v1/jobs/nobody"),
        ("DELETE", "/v1/jobs/nobody"),
        ("GET", "/v1/jobs/nobody/events"),
        ("GET", "/v1/jobs/nobody/images/0"),
    ):
        answer = await caller.http.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (404, "job_unknown")


async def test_an_invalid_request_is_refused_with_the_names_of_its_faults(
    gateways: GatewayWorld,
) -> None:
    _, caller = await gateways.gateway()
    answer = await caller.submit({"prompt": "", "width": 13, "colour": "red"})
    body = answer.json()
    assert (answer.status_code, body["code"]) == (422, "invalid_request")
    named = {".".join(map(str, each["loc"])) for each in body["errors"]}
    assert named == {"body.request.prompt", "body.request.width", "body.request.colour"}


async def test_text_that_cannot_be_written_is_refused(gateways: GatewayWorld) -> None:
    contract = ServiceContract("chain", MegaServiceRequest, MegaServiceResult, has_stages=True)
    _, caller = await gateways.gateway(ServiceContract(), contract)
    request = {"prompt": "x", "parameters": {"writer": {"text": "?"}}}
    content = json.dumps({"service": "chain", "request": request}).replace('"?"', r'"\ud800"')
    with capture_logs() as logs:
        answer = await caller.http.post(
            "/v1/jobs", content=content, headers={"Content-Type": "application/json"}
        )
    assert answer.status_code == 422
    assert not [each for each in logs if each["log_level"] in {"error", "critical"}]


async def test_what_its_node_refuses_is_the_callers_fault(
    world: World, gateways: GatewayWorld
) -> None:
    def refuse(*_: Any) -> None:
        raise InvalidRequest("num_inference_steps: at most 3")

    await world.node(Painter(script=refuse))
    _, caller = await gateways.gateway()
    job = await caller.ended(await caller.submitted())
    assert (job["status"], job["error"]["code"]) == ("failed", "invalid_request")


@pytest.mark.parametrize("door", [*SYNC_DOORS, "/v1/jobs"])
async def test_a_model_that_nobody_has_is_not_found(
    world: World, gateways: GatewayWorld, door: str
) -> None:
    await world.node(Painter())
    _, caller = await gateways.gateway(instances=1)
    request = {**PROMPT, "model": "nobody/has-it"}
    answer = await caller.http.post(
        door, json={"request": request} if door == "/v1/jobs" else request
    )
    assert answer.status_code == 404
    assert "nobody/has-it" in answer.text


async def test_no_more_jobs_are_taken_than_there_is_room_for(
    world: World, gateways: GatewayWorld, painter: Painter
) -> None:
    await world.node(painter)
    gateway, caller = await gateways.gateway(max_jobs=2)
    addresses = [await caller.submitted() for _ in range(2)]
    refused = await caller.submit()
    assert (refused.status_code, refused.json()["code"]) == (503, "busy")
    assert int(refused.headers["retry-after"]) >= 1
    painter.free_running = True
    for each in addresses:
        await caller.ended(each)
    await waiting_jobs(gateway, 0)
    assert (await caller.submit()).status_code == 202


async def test_requests_take_no_more_memory_than_there_is(gateways: GatewayWorld) -> None:
    _, caller = await gateways.gateway(job_bytes=0, max_body_bytes=4096)
    large = {**PROMPT, "negative_prompt": "x" * 1500}
    answers = [await caller.submit(large) for _ in range(3)]
    assert [each.status_code for each in answers] == [202, 202, 503]
    assert "memory" in answers[-1].json()["detail"]


async def test_a_full_queue_is_busy_and_its_jobs_are_done(
    world: World, gateways: GatewayWorld, connect: Callable[[], Broker], tmp_path: Path
) -> None:
    chains = ChainWorld(world, connect)
    name = chains.service("narrow")
    topology = service_topology(name)
    for queue in topology.queues:
        queue.arguments["x-max-length"] = 1
    broker = await world.broker()
    await broker.apply(topology)
    contract = ServiceContract(name, Text2ImageRequest, Text2ImageResult)
    _, caller = await gateways.gateway(contract, job_store=f"file://{tmp_path}")
    answers: list[httpx.Response] = []
    while len(answers) < 50 and (not answers or answers[-1].status_code == 202):
        answers.append(await caller.submit(service=name, key=f"key-{len(answers)}"))
    refused = answers.pop()
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert answers
    assert (await caller.http.get("/v1/jobs")).json()["jobs"][0]["id"] == answers[-1].json()["id"]
    # Nothing is left of what was refused: its key is free for another request.
    other = await caller.submit(
        {"prompt": "something else"}, service=name, key=f"key-{len(answers)}"
    )
    assert other.status_code == 503


async def test_without_its_store_a_gateway_takes_no_jobs_that_must_outlive_it(
    world: World, gateways: GatewayWorld, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    await world.node(Painter())
    _, caller = await gateways.gateway(instances=1, job_store=f"file://{tmp_path}/file/store")
    refused = await caller.submit()
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    assert str(tmp_path) not in refused.text
    assert (await caller.http.post(OPEA, json=PROMPT)).status_code == 200
    assert (await caller.http.get("/v1/jobs")).json()["jobs"][0]["status"] == "succeeded"


async def test_ended_jobs_are_forgotten_by_age(
    world: World, gateways: GatewayWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "FORGET_SECONDS", 0.02)
    await world.node(Painter())
    gateway, caller = await gateways.gateway(job_seconds=0.2)
    address = await caller.submitted()
    (job,) = gateway.desk.all_jobs()
    await until(job.ended.is_set, "the end")
    await until(lambda: not list(gateway.desk.all_jobs()), "the job is forgotten")
    assert (await caller.http.get(address)).status_code == 404


async def test_ended_jobs_are_forgotten_when_they_take_too_much_memory(
    world: World,
    gateways: GatewayWorld,
    painter: Painter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(desk, "FORGET_SECONDS", 0.02)
    await world.node(painter)
    gateway, caller = await gateways.gateway(job_bytes=2000)
    large = {**PROMPT, "negative_prompt": "x" * 500}
    addresses = [await caller.submitted(large) for _ in range(4)]
    painter.free_running = True
    (*_, last) = list(gateway.desk.all_jobs())
    await until(last.ended.is_set, "the end of the last")
    await until(lambda: len(list(gateway.desk.all_jobs())) < 4, "some are forgotten")
    assert (await caller.http.get(addresses[0])).status_code == 404
    assert (await caller.http.get(addresses[-1])).status_code == 200


async def test_a_result_is_kept_once(world: World, gateways: GatewayWorld) -> None:
    await world.node(Painter())
    gateway, caller = await gateways.gateway()
    await caller.ended(await caller.submitted())
    for client in gateway.desk._carrier._clients.values():
        assert (client._pending, client._settled) == ({}, {})
