"""A gateway and nodes as an operator starts them, and an environment with OPEA's package alone."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import NodeProcess, node_process

PATIENCE_SECONDS = 120.0
PYTHON = Path(os.environ.get("OPEA_PYTHON", ".venv-opea/bin/python"))
PROGRAM = Path(__file__).with_name("program.py")


class Gateway:
    """`python -m orchestrator_example serve` with its log in a file."""

    def __init__(self, amqp_url: str, folder: Path, **settings: str) -> None:
        self._log_path = folder / "gateway.log"
        environment = {
            **os.environ,
            "NODE_AMQP_URL": amqp_url,
            "NODE_LOG_FORMAT": "json",
            "NODE_HTTP_PORT": "0",
            "GATEWAY_PORT": "0",
            "GATEWAY_MEGASERVICES": "painter",
            **{f"GATEWAY_{name.upper()}": value for name, value in settings.items()},
        }
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator_example", "serve"],
                env=environment,
                stdout=log,
                stderr=log,
            )
        self.url = str(self.wait_for("gateway.opened")["url"])
        self.address = self.url.removeprefix("http://")

    def log(self) -> list[dict[str, Any]]:
        """Read the log so far; every line must be JSON."""
        lines = self._log_path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def wait_for(self, event: str) -> dict[str, Any]:
        """Wait until a log line of this event appears."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up_at:
            ended = self.process.poll() is not None
            for line in self.log():
                if line["event"] == event:
                    return line
            assert not ended, f"the gateway ended: {self._log_path.read_text()}"
            time.sleep(0.05)
        raise AssertionError(f"no {event} in: {self._log_path.read_text()}")

    def stop(self) -> None:
        """End it as an operator does."""
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()


class Opea:
    """Runs cases of `program.py` with OPEA's package, against one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def start(self, case: str, *arguments: str) -> "subprocess.Popen[str]":
        """Begin a case."""
        assert PYTHON.exists(), f"{PYTHON} is not there: `make test-opea` installs opea-comps"
        # OPEA's client heeds proxies, and a loopback address has none.
        environment = {**os.environ, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
        return subprocess.Popen(
            [PYTHON, PROGRAM, case, self._gateway.address, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, case: str, *arguments: str) -> dict[str, Any]:
        """Run a case and return what it says."""
        process = self.start(case, *arguments)
        try:
            out, errors = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
        assert process.returncode == 0, errors
        answer: dict[str, Any] = json.loads(out.splitlines()[-1])
        return answer


@pytest.fixture(scope="module")
def node(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One node with the shipped models."""
    folder = tmp_path_factory.mktemp("node")
    settings = {"component": "text2image,image2image,prompt-writer", "max_inference_steps": "1000"}
    with node_process(amqp_url, folder, **settings) as process:
        process.wait_for("node.ready")
        yield process


@pytest.fixture(scope="module")
def gateway(
    amqp_url: str, node: NodeProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    gateway = Gateway(amqp_url, tmp_path_factory.mktemp("gateway"))
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def opea(gateway: Gateway) -> Opea:
    return Opea(gateway)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
