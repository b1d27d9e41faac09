"""Events of jobs over HTTP: for readers who are late, come back, are slow, or deaf."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from node.ports import Broker
from orchestrator_example.gateway import sse
from orchestrator_example.gateway.server import Gateway
from orchestrator_example.graph import ServiceGraph
from tests.chains import ChainWorld
from tests.gateways import PROMPT, GatewayWorld, Painter
from tests.harness import PATIENCE_SECONDS, World, until


async def test_events_are_told_as_they_happen_and_the_end_last(
    world: World, gateways: GatewayWorld, painter: Painter
) -> None:
    await world.node(painter)
    _, caller = await gateways.gateway()
    address = await caller.submitted()
    async with caller.events(address) as events, asyncio.timeout(PATIENCE_SECONDS):
        painter.step(1)
        kinds = [(await anext(events)).event for _ in range(3)]
        painter.free_running = True
        rest = [each async for each in events]
    assert kinds == ["accepted", "started", "progress"]
    assert rest[-1].event == "succeeded"
    assert (await caller.job(address))["status"] == "succeeded"


async def test_who_comes_back_hears_what_it_missed_and_then_that_there_is_no_more(
    world: World, gateways: GatewayWorld
) -> None:
    await world.node(Painter())
    _, caller = await gateways.gateway()
    address = await caller.submitted()
    await caller.ended(address)
    everything = await caller.all_events(address)
    for position, each in enumerate(everything[:-1]):
        assert await caller.all_events(address, each.id) == everything[position + 1 :]
    over = await caller.http.get(f"{address}/events", headers={"Last-Event-ID": everything[-1].id})
    assert (over.status_code, over.content) == (204, b"")
    assert await caller.all_events(address, "what-7-another gateway wrote") == everything


async def test_a_silent_stream_is_kept_alive(
    gateways: GatewayWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "KEEPALIVE_SECONDS", 0.05)
    _, caller = await gateways.gateway()
    address = await caller.submitted()
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        caller.http.stream("GET", f"{address}/events") as response,
    ):
        lines = response.aiter_lines()
        assert [await anext(lines) for _ in range(4)] == [": still there", ""] * 2


def tell_much(_: Any, invocation: Any) -> None:
    """Give previews that no buffers of a connection hold."""
    for step in range(1, 11):
        invocation.preview(step, bytes(500_000), "image/png")


@asynccontextmanager
async def deaf_reader(gateway: Gateway, address: str) -> AsyncIterator[None]:
    """Ask for the events of a job, and read nothing of the answer."""
    loop = asyncio.get_running_loop()
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        await loop.sock_connect(deaf, ("127.0.0.1", gateway.port))
        ask = f"GET {address}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        await loop.sock_sendall(deaf, ask)
        yield


async def test_who_reads_nothing_makes_nobody_wait(
    world: World, gateways: GatewayWorld, painter: Painter
) -> None:
    painter.script = tell_much
    await world.node(painter)
    gateway, caller = await gateways.gateway()
    address = await caller.submitted({**PROMPT, "previews": 10})
    async with deaf_reader(gateway, address):
        async with caller.events(address) as events, asyncio.timeout(PATIENCE_SECONDS):
            painter.free_running = True
            kinds = [each.event async for each in events]
        assert kinds[-1] == "succeeded"
        assert "preview" in kinds
        assert (await caller.job(address))["status"] == "succeeded"
        assert (await caller.http.get("/health")).status_code == 200


async def test_who_reads_nothing_does_not_keep_a_gateway_from_stopping(
    world: World, gateways: GatewayWorld, painter: Painter
) -> None:
    painter.script = tell_much
    painter.free_running = True
    await world.node(painter)
    gateway, caller = await gateways.gateway(grace_seconds=0.2)
    address = await caller.submitted({**PROMPT, "previews": 10})
    await caller.ended(address)
    with capture_logs() as logs:
        async with deaf_reader(gateway, address):
            await until(lambda: len(gateway._server.server_state.tasks) == 1, "the stuck answer")
            gateway.stop()
            await until(lambda: logs and logs[-1]["event"] == "gateway.stopped", "its end")


@pytest.fixture
def chains(world: World, connect: Callable[[], Broker]) -> ChainWorld:
    return ChainWorld(world, connect)


async def test_a_chain_tells_of_its_stages(chains: ChainWorld, gateways: GatewayWorld) -> None:
    first = await chains.serve("first")
    first.hold = True
    graph = ServiceGraph().add(chains.stage("first"))
    await chains.orchestrate(graph)
    contract = chains.megaservice(graph).contract()
    _, caller = await gateways.gateway(contract, instances=2)
    address = await caller.submitted({"prompt": "a cat"}, service=chains.name)
    async with caller.events(address) as events, asyncio.timeout(PATIENCE_SECONDS):
        told = [await anext(events)]
        while told[-1].event != "stage":
            told.append(await anext(events))
        view = await caller.job_once(address, lambda view: view["progress"], "progress")
        assert (view["status"], view["progress"]["stage"]) == ("running", "first")
        first.hold = False
        told += [each async for each in events]
    assert {each.data["stage"] for each in told if each.event == "stage"} == {"first"}
    assert told[-1].event == "succeeded"
    job = await caller.ended(address)
    assert job["result"]["stages"]["first"]["output"] == {"text": "A CAT"}


async def test_watching_a_job_and_going_away_does_not_touch_it(
    world: World, gateways: GatewayWorld, painter: Painter
) -> None:
    await world.node(painter)
    _, caller = await gateways.gateway()
    address = await caller.submitted()
    async with caller.events(address) as events, asyncio.timeout(PATIENCE_SECONDS):
        await anext(events)
    painter.free_running = True
    assert (await caller.ended(address))["status"] == "succeeded"
