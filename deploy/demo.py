"""`make demo`: one node, one request, one picture, nothing left behind.

Expects a broker in NODE_AMQP_URL, as `deploy.local_broker run` provides. Runs the commands that a
person would type, and prints them.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

from rich.console import Console

from contracts.discovery import NodeState
from node.app import SystemClock, make_broker
from node.discovery.directory import ServiceDirectory, ServiceEntry
from node.log import configure_logging
from node.settings import Settings
from node.tasks import running

PROMPT: Final = "An astronaut riding a green horse"
OUT: Final = Path("out")
READY_SECONDS: Final = 300.0
STOP_SECONDS: Final = 60.0
LOG_LINES: Final = 20

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run the demo; returns the exit code."""
    OUT.mkdir(exist_ok=True)
    configure_logging("console", "ERROR")
    instance_id = f"demo-{uuid4().hex[:8]}"
    with _node(instance_id) as (process, log_path):
        if not asyncio.run(_wait_until_ready(process, instance_id)):
            console.print(f"[red]the node did not get ready[/]; the end of {log_path}:")
            console.print("".join(log_path.read_text().splitlines(keepends=True)[-LOG_LINES:]))
            return 1
        command = ["submit", PROMPT, "--seed", "42", "--out", str(OUT / "demo.png")]
        _show(command)
        return subprocess.run([sys.executable, "-m", "node", *command], check=False).returncode


@contextmanager
def _node(instance_id: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Serve the model of the settings in a process of its own, and drain it at the end."""
    log_path = OUT / "demo-node.log"
    environment = os.environ | {"NODE_INSTANCE_ID": instance_id, "NODE_LOG_FORMAT": "json"}
    _show(["serve"])
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "node", "serve"], env=environment, stdout=log, stderr=log
        )
    try:
        yield process, log_path
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _wait_until_ready(process: "subprocess.Popen[bytes]", instance_id: str) -> bool:
    """Watch the announcements of the node until it is ready; False when it ended or took too long.

    This is how an orchestrator sees it, too: nothing but the broker is needed.
    """
    broker = make_broker(Settings())
    directory = ServiceDirectory(broker, SystemClock())
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + READY_SECONDS
    async with broker.running(), running(directory=directory.run()):
        with console.status("starting") as status:
            while process.poll() is None and loop.time() < give_up_at:
                for entry in directory.services():
                    if entry.instance_id == instance_id:
                        status.update(_progress(entry))
                        if entry.metadata.state is NodeState.READY:
                            return True
                await asyncio.sleep(0.1)
    return False


def _progress(entry: ServiceEntry) -> str:
    loading = entry.metadata.loading
    if loading is None:
        return entry.metadata.state.value
    share = f" {loading.bytes_done / loading.bytes_total:.0%}" if loading.bytes_total else ""
    return f"{loading.stage.replace('_', ' ')} {loading.model}{share}"


def _show(command: list[str]) -> None:
    words = " ".join(f'"{word}"' if " " in word else word for word in command)
    console.print(f"[bold]$ text2image-node {words}[/]")


if __name__ == "__main__":
    sys.exit(main())
