"""Real gateway processes beside the nodes of a fleet."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from deploy.broker_place import free_ports
from tests.faults.harness.fleet import Fleet, FleetNode
from tests.gateways import HttpCaller

CALL_SECONDS: Final = 60.0

SETTINGS: Final = {
    "megaservices": "[]",
    "grace_seconds": "10",
}


class _Process:
    """`python -m orchestrator_example serve` with its log in a file."""

    def __init__(self, environment: dict[str, str], log_path: Path) -> None:
        self._log_path = log_path
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator_example", "serve"],
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
            )

    def log(self) -> list[dict[str, Any]]:
        """Read the log so far; every line must be JSON."""
        lines = self._log_path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)


class GatewayNode(FleetNode):
    """One gateway process."""

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[HttpCaller]:
        """Open a caller."""
        url = f"http://127.0.0.1:{self.started_with['port']}"
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=CALL_SECONDS, limits=limits) as client:
            yield HttpCaller(client)


class GatewayFleet(Fleet):
    """Nodes and gateways; `store` is where gateways keep jobs, and nodes share results."""

    @property
    def store(self) -> str:
        """URL of the store."""
        return f"file://{self._folder / 'store'}"

    async def gateway(self, name: str = "gateway", **settings: str) -> GatewayNode:
        """Start a gateway and wait until it takes calls; `settings` are its own, as text."""
        settings = SETTINGS | {"port": str(free_ports(1)[0]), "job_store": self.store} | settings
        environment = {
            "NODE_AMQP_URL": ",".join(self.urls),
            "NODE_HEARTBEAT_SECONDS": "2",
            "NODE_LOG_FORMAT": "json",
            **{f"GATEWAY_{name.upper()}": value for name, value in settings.items()},
        }
        log_path = self._folder / f"{name}-{len(self.nodes)}.log"
        process: Any = _Process(environment, log_path)
        gateway = GatewayNode(process, name, settings)
        self.nodes.append(gateway)
        self._leave_nothing_behind()
        await gateway.logged("gateway.opened")
        return gateway

    async def start_again(self, gateway: GatewayNode) -> GatewayNode:
        """Start a gateway that ended once more, at the same address."""
        return await self.gateway(gateway.name, **gateway.started_with)
