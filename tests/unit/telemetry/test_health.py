"""Liveness, readiness and metrics over real HTTP."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from node.errors import SetupError
from node.tasks import running
from node.telemetry.health import HealthServer
from node.telemetry.metrics import Metrics
from tests.harness import until

HOST = "127.0.0.1"


class Probe:
    """A health server, what it is told, and a client that asks it."""

    def __init__(self, server: HealthServer, http: aiohttp.ClientSession) -> None:
        self.server = server
        self._http = http

    async def get(self, path: str) -> tuple[int, str]:
        async with self._http.get(f"http://{HOST}:{self.server.port}{path}") as response:
            return response.status, await response.text()


@pytest.fixture
def reasons() -> list[str]:
    """Why the node is not ready; a test changes it."""
    return []


@asynccontextmanager
async def serving(reasons: list[str], port: int = 0) -> AsyncIterator[Probe]:
    server = HealthServer(Metrics(), lambda: list(reasons))
    async with server.serving(HOST, port), aiohttp.ClientSession() as http:
        yield Probe(server, http)


@pytest.fixture
async def probe(reasons: list[str]) -> AsyncIterator[Probe]:
    async with serving(reasons) as probe:
        yield probe


async def test_a_running_process_is_alive_even_when_it_is_not_ready(
    probe: Probe, reasons: list[str]
) -> None:
    reasons.append("the node is starting")
    assert (await probe.get("/health/live"))[0] == 200


async def test_ready_means_that_there_is_no_reason_against_it(
    probe: Probe, reasons: list[str]
) -> None:
    assert (await probe.get("/health/ready"))[0] == 200
    reasons[:] = ["the node is draining", "the broker is not connected"]
    status, text = await probe.get("/health/ready")
    assert status == 503
    assert "the node is draining" in text
    assert "the broker is not connected" in text


async def test_metrics_come_in_prometheus_text_format(probe: Probe) -> None:
    status, text = await probe.get("/metrics")
    assert status == 200
    assert "# TYPE text2image_node_jobs_running gauge" in text


async def test_there_is_nothing_else(probe: Probe) -> None:
    assert (await probe.get("/"))[0] == 404


async def test_a_port_that_is_taken_is_replaced_by_a_free_one(reasons: list[str]) -> None:
    async with serving(reasons) as first, serving(reasons, first.server.port) as second:
        assert second.server.port != first.server.port
        assert (await first.get("/health/live"))[0] == 200
        assert (await second.get("/health/live"))[0] == 200


async def test_the_port_is_free_again_at_the_end(reasons: list[str]) -> None:
    async with serving(reasons) as probe:
        port = probe.server.port
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))


async def test_an_address_that_is_not_ours_is_one_clear_line() -> None:
    server = HealthServer(Metrics(), list)
    with pytest.raises(SetupError, match=r"cannot listen on 192\.0\.2\.1:0"):
        async with server.serving("192.0.2.1", 0):
            pass


async def test_a_blocked_event_loop_is_noticed() -> None:
    metrics = Metrics()
    lags: list[float] = []
    metrics.observe_loop_lag = lags.append
    async with running(watch=HealthServer(metrics, list).watch_loop()):
        await asyncio.sleep(0)
        await asyncio.to_thread(lambda: None)
        # The one thing this test is about: something that holds the event loop up.
        time.sleep(0.2)  # noqa: ASYNC251
        await until(lambda: lags, "a measurement")
    assert max(lags) > 0.1
