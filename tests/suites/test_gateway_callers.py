"""Calls that wait for their pictures: who hangs up, who comes too early, who waits too long."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from node.errors import GenerationFailed
from node.ports import Broker
from orchestrator_example.graph import ServiceGraph
from tests.chains import ChainWorld
from tests.gateways import (
    OPEA,
    PROMPT,
    SYNC_DOORS,
    GatewayWorld,
    Painter,
    asking,
    hung_up,
    waiting_jobs,
)
from tests.harness import PATIENCE_SECONDS, World, until


@pytest.fixture
def chains(world: World, connect: Callable[[], Broker]) -> ChainWorld:
    return ChainWorld(world, connect)


@pytest.mark.parametrize("door", SYNC_DOORS)
async def test_a_key_is_one_job_behind_every_door(
    world: World, gateways: GatewayWorld, door: str
) -> None:
    component = Painter()
    await world.node(component)
    _, caller = await gateways.gateway(instances=1)
    headers = {"Idempotency-Key": "once"}
    first, second = [await caller.http.post(door, json=PROMPT, headers=headers) for _ in range(2)]
    assert (first.status_code, second.status_code) == (200, 200)
    assert len(component.invocations) == 1


async def test_a_running_job_past_its_deadline_expires(
    world: World, gateways: GatewayWorld, painter: Painter
) -> None:
    await world.node(painter)
    _, caller = await gateways.gateway(instances=1, timeout_seconds=0.5)
    answer = await caller.http.post(OPEA, json=PROMPT)
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")


async def test_a_failed_job_says_why_behind_every_door(
    world: World, gateways: GatewayWorld
) -> None:
    def fail(*_: Any) -> None:
        raise GenerationFailed("the picture came out black")

    await world.node(Painter(script=fail))
    _, caller = await gateways.gateway(instances=1)
    job = await caller.ended(await caller.submitted())
    assert job["error"]["detail"] == "the picture came out black"
    for door in SYNC_DOORS:
        answer = await caller.http.post(door, json=PROMPT)
        assert answer.status_code == 500
        assert "the picture came out black" in answer.text


@pytest.mark.parametrize("door", SYNC_DOORS)
async def test_who_hangs_up_cancels_the_job_that_it_waits_for(
    world: World, gateways: GatewayWorld, painter: Painter, door: str
) -> None:
    await world.node(painter)
    gateway, caller = await gateways.gateway(instances=1)
    call = await asking(caller, door)
    await painter.started()
    (job,) = gateway.desk.all_jobs()
    await hung_up(call)
    await until(job.ended.is_set, "the end of the job")
    assert job.state == "cancelled"
    assert painter.finished == []


@pytest.mark.parametrize("door", SYNC_DOORS)
async def test_who_hangs_up_and_can_ask_again_finds_its_job_done(
    world: World, gateways: GatewayWorld, painter: Painter, door: str
) -> None:
    await world.node(painter)
    gateway, caller = await gateways.gateway(instances=1)
    headers = {"Idempotency-Key": "mine"}
    calls = [await asking(caller, door, **headers) for _ in range(2)]
    await painter.started()
    await waiting_jobs(gateway, 1)
    (job,) = gateway.desk.all_jobs()
    await hung_up(calls[0])
    again = await asking(caller, door, **headers)
    painter.free_running = True
    assert [(await call).status_code for call in (calls[1], again)] == [200, 200]
    assert painter.finished == [job.id]
    assert not job.cancel_requested


async def test_where_the_setting_says_so_a_job_survives_its_caller(
    world: World, gateways: GatewayWorld, painter: Painter
) -> None:
    await world.node(painter)
    gateway, caller = await gateways.gateway(instances=1, cancel_on_disconnect=False)
    with capture_logs() as logs:
        call = await asking(caller, OPEA)
        await painter.started()
        (job,) = gateway.desk.all_jobs()
        await hung_up(call)
        painter.free_running = True
        await until(job.ended.is_set, "the end of the job")
    assert job.state == "succeeded"
    assert not [each for each in logs if each["event"] == "job.abandoned"]


async def test_the_first_call_of_a_gateway_finds_the_nodes_that_are_there(
    world: World, gateways: GatewayWorld
) -> None:
    await world.node(Painter())
    _, caller = await gateways.gateway()
    assert (await caller.http.post(OPEA, json=PROMPT)).status_code == 200


@pytest.mark.parametrize("door", SYNC_DOORS)
async def test_with_no_node_there_a_call_that_waits_is_refused_at_once(
    gateways: GatewayWorld, door: str
) -> None:
    _, caller = await gateways.gateway()
    async with asyncio.timeout(2.0):
        refused = await caller.http.post(door, json=PROMPT)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert "no instance of text2image is there" in refused.text
    assert (await caller.submit()).status_code == 202


async def test_a_chain_whose_services_are_not_there_is_refused_at_once(
    chains: ChainWorld, gateways: GatewayWorld
) -> None:
    graph = ServiceGraph().add(chains.stage("first"))
    await chains.orchestrate(graph)
    contract = chains.megaservice(graph).contract()
    _, caller = await gateways.gateway(contract, instances=1)
    refused = await caller.http.post(f"/v1/{chains.name}", json={"prompt": "a cat"})
    assert refused.status_code == 503
    assert chains.service("first") in refused.json()["detail"]


async def test_a_gateway_that_stops_answers_those_who_wait_and_ends_those_who_watch(
    world: World, gateways: GatewayWorld, painter: Painter
) -> None:
    await world.node(painter)
    gateway, caller = await gateways.gateway(instances=1, grace_seconds=PATIENCE_SECONDS)
    address = await caller.submitted()
    await painter.started()
    call = await asking(caller, OPEA)
    await waiting_jobs(gateway, 2)
    async with caller.events(address) as events, asyncio.timeout(PATIENCE_SECONDS):
        await anext(events)
        gateway.stop()
        kinds = [each.event async for each in events]
    assert "succeeded" not in kinds
    painter.free_running = True
    assert (await call).status_code == 200


@pytest.mark.parametrize("door", SYNC_DOORS)
async def test_who_waits_for_longer_than_the_grace_is_told_to_ask_again(
    world: World, gateways: GatewayWorld, painter: Painter, door: str
) -> None:
    await world.node(painter)
    gateway, caller = await gateways.gateway(instances=1, grace_seconds=0.2)
    call = await asking(caller, door)
    await painter.started()
    gateway.stop()
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await call
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "ask again" in answer.text


async def test_no_answer_is_held_back_for_the_acknowledgement_of_its_head(
    gateways: GatewayWorld,
) -> None:
    gateway, caller = await gateways.gateway()
    await caller.http.get("/health")
    (connection,) = gateway._server.server_state.connections
    answering: Any = connection.transport.get_extra_info("socket")
    assert answering.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
