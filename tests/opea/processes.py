"""A gateway as an operator starts it, and programs with OPEA's package."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.processes import PATIENCE_SECONDS, NodeProcess

PYTHON = Path(os.environ.get("OPEA_PYTHON", ".venv-opea/bin/python"))
"""An environment that has opea-comps, and nothing of ours."""
PROGRAM = Path(__file__).with_name("program.py")


class GatewayProcess(NodeProcess):
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

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(self.wait_for("gateway.opened")["url"])

    @property
    def address(self) -> str:
        """Where it listens, as HOST:PORT."""
        return self.url.removeprefix("http://")


@contextmanager
def gateway_process(amqp_url: str, folder: Path, **settings: str) -> Iterator[GatewayProcess]:
    """Run a gateway inside the context; it is ended as an operator does."""
    gateway = GatewayProcess(amqp_url, folder, **settings)
    try:
        gateway.wait_for("node.ready")  # the node of its mega-service
        yield gateway
        gateway.process.terminate()
        gateway.wait()
    finally:
        gateway.process.kill()
        gateway.process.wait()


class Opea:
    """Runs cases of `program.py` against one gateway."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway

    def start(self, case: str, *arguments: str) -> "subprocess.Popen[str]":
        """Begin a case."""
        return self._python(str(PROGRAM), case, self._gateway.address, *arguments)

    def run(self, case: str, *arguments: str) -> dict[str, Any]:
        """Run a case and return what it says."""
        answer: dict[str, Any] = json.loads(self._end_of(self.start(case, *arguments)))
        return answer

    def run_code(self, code: str) -> str:
        """Run code and return the last line that it prints."""
        return self._end_of(self._python("-c", code))

    def _python(self, *arguments: str) -> "subprocess.Popen[str]":
        assert PYTHON.exists(), f"{PYTHON} is not there: `make test-opea` installs opea-comps"
        # OPEA's client heeds proxies, and a loopback address has none.
        environment = {**os.environ, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
        return subprocess.Popen(
            [PYTHON, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _end_of(self, process: "subprocess.Popen[str]") -> str:
        try:
            out, errors = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
        assert process.returncode == 0, errors
        return out.splitlines()[-1]
