"""The nodes of a demo: processes of their own, watched until they are ready, drained at the end."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from rich.console import Console

from contracts.discovery import NodeState
from node.app import SystemClock, make_broker
from node.discovery.directory import ServiceDirectory, ServiceEntry
from node.settings import Settings
from node.tasks import running

OUT: Final = Path("out")
READY_SECONDS: Final = 300.0
STOP_SECONDS: Final = 60.0
LOG_LINES: Final = 20

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class DemoNode:
    """One node: what it serves, its process and its log."""

    component: str
    instance_id: str
    process: "subprocess.Popen[bytes]"
    log_path: Path

    def log_end(self) -> str:
        """The last lines of its log."""
        return "".join(self.log_path.read_text().splitlines(keepends=True)[-LOG_LINES:])


@contextmanager
def served(component: str, environment: Mapping[str, str] | None = None) -> Iterator[DemoNode]:
    """Serve a component in a process of its own, and drain it at the end."""
    OUT.mkdir(exist_ok=True)
    log_path = OUT / f"demo-{component}.log"
    instance_id = f"demo-{uuid4().hex[:8]}"
    given = {"NODE_INSTANCE_ID": instance_id, "NODE_LOG_FORMAT": "json"}
    if component != "text2image":
        # Set for the picture model, it is none that writes or reads.
        given["NODE_MODEL"] = given["MODEL"] = ""
    command = ["serve", "--component", component]
    show(command)
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "node", *command],
            env={**os.environ, **given, **(environment or {})},
            stdout=log,
            stderr=log,
        )
    try:
        yield DemoNode(component, instance_id, process, log_path)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(*nodes: DemoNode) -> bool:
    """Wait for nodes to be ready; where one does not get there, say why and return False."""
    late = asyncio.run(_late(nodes))
    for node in late:
        console.print(f"[red]{node.component} did not get ready[/]; the end of {node.log_path}:")
        console.print(node.log_end(), markup=False)
    return not late


async def _late(nodes: tuple[DemoNode, ...]) -> list[DemoNode]:
    """Watch the announcements of nodes until all are ready; list those that are not in time.

    This is how an orchestrator sees them, too: nothing but the broker is needed.
    """
    settings = Settings()
    broker = make_broker(settings)
    directory = ServiceDirectory(broker, SystemClock(), verify=settings.verify_announcers)
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + READY_SECONDS
    waiting = list(nodes)
    async with broker.running(), running(directory=directory.run()):
        with console.status("starting") as status:
            while waiting and loop.time() < give_up_at:
                told = {entry.instance_id: entry for entry in directory.services()}
                waiting = [node for node in waiting if not _is_ready(told.get(node.instance_id))]
                if any(node.process.poll() is not None for node in waiting):
                    break
                heard = [told[n.instance_id] for n in waiting if n.instance_id in told]
                status.update(", ".join(map(_progress, heard)) or "starting")
                await asyncio.sleep(0.1)
    return waiting


def _is_ready(entry: ServiceEntry | None) -> bool:
    return entry is not None and entry.metadata.state is NodeState.READY


def _progress(entry: ServiceEntry) -> str:
    loading = entry.metadata.loading
    if loading is None:
        return f"{entry.name} {entry.metadata.state.value}"
    share = f" {loading.bytes_done / loading.bytes_total:.0%}" if loading.bytes_total else ""
    return f"{loading.stage.replace('_', ' ')} {loading.model}{share}"


def show(command: list[str], program: str = "text2image-node") -> None:
    """Print a command as a person would type it."""
    words = " ".join(f'"{word}"' if " " in word else word for word in command)
    console.print(f"[bold]$ {program} {words}[/]")
