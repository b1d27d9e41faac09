"""Liveness, readiness and metrics over HTTP."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from node.errors import SetupError
from node.telemetry.metrics import Metrics

LAG_PROBE_SECONDS: Final = 0.05
SHUTDOWN_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)

Readiness = Callable[[], list[str]]
"""Lists the reasons why the node takes no work; empty when it is ready."""


class HealthServer:
    """Answers `/health/live`, `/health/ready` and `/metrics`."""

    def __init__(self, metrics: Metrics, reasons_not_ready: Readiness) -> None:
        self._metrics = metrics
        self._reasons_not_ready = reasons_not_ready
        self.port: int | None = None

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[None]:
        """Serve inside the context, on a free port when `port` is taken."""
        application = web.Application()
        application.add_routes(
            [
                web.get("/health/live", self._live),
                web.get("/health/ready", self._ready),
                web.get("/metrics", self._scrape),
            ]
        )
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            self.port = await _listen(runner, host, port)
            log.info("health.opened", url=f"http://{host}:{self.port}/health/ready")
            yield
        finally:
            await runner.cleanup()

    async def watch_loop(self) -> None:
        """Measure how late the event loop is, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_PROBE_SECONDS
            await asyncio.sleep(LAG_PROBE_SECONDS)
            self._metrics.observe_loop_lag(max(loop.time() - due, 0.0))

    async def _live(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _ready(self, _: web.Request) -> web.Response:
        reasons = self._reasons_not_ready()
        if reasons:
            return web.json_response({"status": "not ready", "reasons": reasons}, status=503)
        return web.json_response({"status": "ready"})

    async def _scrape(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )


async def _listen(runner: web.AppRunner, host: str, port: int) -> int:
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
    except OSError as error:
        if error.errno != errno.EADDRINUSE or port == 0:
            raise SetupError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        log.warning("health.port_taken", port=port)
        site = web.TCPSite(runner, host, 0)
        await site.start()
    bound: int = runner.addresses[-1][1]
    return bound
