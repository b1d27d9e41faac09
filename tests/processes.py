"""Real node processes, as an operator starts them."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 300.0


def tiny_checkpoint(folder: Path) -> Path:
    """Build a tiny Stable Diffusion in another process: torch stays out of this one."""
    subprocess.run([sys.executable, "-m", "tests.checkpoints", "sd", str(folder)], check=True)
    return folder


class NodeProcess:
    """`python -m node serve` with its log in a file."""

    def __init__(self, amqp_url: str, folder: Path, **settings: str) -> None:
        self._log_path = folder / f"node-{len(list(folder.glob('node-*')))}.log"
        environment = {
            **os.environ,
            "NODE_AMQP_URL": amqp_url,
            "NODE_LOG_FORMAT": "json",
            "NODE_HTTP_PORT": "0",
            # Two threads on two busy cores wait for each other: tests want steady, not fast.
            "OMP_NUM_THREADS": "1",
            **{f"NODE_{name.upper()}": value for name, value in settings.items()},
        }
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "node", "serve"], env=environment, stdout=log, stderr=log
            )

    def log(self) -> list[dict[str, Any]]:
        """Read the log so far; every line must be JSON."""
        lines = self._log_path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def wait_for(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait until a log line with these fields appears."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up_at:
            ended = self.process.poll() is not None
            for line in self.log():
                if line["event"] == event and fields.items() <= line.items():
                    return line
            assert not ended, f"the node ended: {self._log_path.read_text()}"
            time.sleep(0.02)
        raise AssertionError(f"no {event} {fields} in: {self._log_path.read_text()}")

    def get(self, path: str) -> tuple[int, str, float]:
        """Ask the health endpoint; returns status, body, and seconds taken."""
        url = self.wait_for("health.opened")["url"].replace("/health/ready", path)
        started_at = time.monotonic()
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                status, body = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read().decode()
            error.close()
        return status, body, time.monotonic() - started_at

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def node_process(amqp_url: str, folder: Path, **settings: str) -> Iterator[NodeProcess]:
    """Run a node inside the context."""
    node = NodeProcess(amqp_url, folder, **settings)
    try:
        yield node
    finally:
        if node.process.poll() is None:
            node.process.kill()
        node.process.wait()
