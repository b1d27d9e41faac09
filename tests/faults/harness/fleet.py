"""Real node processes around one broker, and the faults that one can do to a process."""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from deploy.processes import LastWill, wait_until_stopped
from node.tasks import running
from tests.faults.harness.paced import Generation, GenerationLog
from tests.faults.harness.waiting import PATIENCE_SECONDS, until
from tests.processes import NodeProcess

COMPONENT: Final = "tests.faults.harness.paced:PacedComponent"
ENDING_SECONDS: Final = 30.0
SUPERVISED_SECONDS: Final = 600.0

QUICK: Final = {
    "component": COMPONENT,
    "heartbeat_seconds": "2",
    "publish_timeout_seconds": "3",
    "grace_seconds": "10",
}


class FleetNode:
    """One node process; `name` is its instance id."""

    def __init__(self, process: NodeProcess, name: str, started_with: dict[str, str]) -> None:
        self.name = name
        self.started_with = started_with
        self._process = process

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.process.poll()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.process.kill()
        self._process.process.wait(ENDING_SECONDS)

    def stop(self) -> None:
        """SIGTERM, without waiting for the end."""
        self._process.signal(signal.SIGTERM)

    def suspend(self) -> None:
        """SIGSTOP, and wait until every thread stands still."""
        self._process.signal(signal.SIGSTOP)
        wait_until_stopped(self._process.process, timeout_seconds=5.0)

    def cont(self) -> None:
        """SIGCONT."""
        self._process.signal(signal.SIGCONT)

    def limit_files(self, size_bytes: int | None) -> None:
        """Let no file grow beyond a size, as a full disk does; None ends it."""
        size = resource.RLIM_INFINITY if size_bytes is None else size_bytes
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def log(self, event: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        """Return the log lines of an event with these fields, or all."""
        lines = self._process.log()
        return [
            line
            for line in lines
            if event in (None, line["event"]) and fields.items() <= line.items()
        ]

    async def logged(
        self,
        event: str,
        *,
        times: int = 1,
        patience_seconds: float = PATIENCE_SECONDS,
        **fields: Any,
    ) -> dict[str, Any]:
        """Wait until an event was logged so many times; return the latest."""

        def found() -> dict[str, Any] | None:
            lines = self.log(event, **fields)
            return lines[times - 1] if len(lines) >= times else None

        what = f"{self.name} logs {event} {fields} {times} times"
        line: dict[str, Any] = await until(found, what, patience_seconds=patience_seconds)
        return line

    async def ready(self) -> None:
        """Wait until it takes requests."""

        def is_ready() -> bool:
            assert self.exit_code is None, f"{self.name} ended: {self.log()[-3:]}"
            return bool(self.log("node.ready") and self.log("inbox.opened"))

        await until(is_ready, f"{self.name} is ready")

    async def ended(self, patience_seconds: float = ENDING_SECONDS) -> int:
        """Wait for the end and return the exit code, negative for a signal."""
        await until(
            lambda: self.exit_code is not None,
            f"{self.name} ends",
            patience_seconds=patience_seconds,
        )
        assert self.exit_code is not None
        return self.exit_code

    def close(self) -> None:
        """End it, frozen or not."""
        if self.exit_code is None:
            self.kill()


class Fleet:
    """Starts nodes of one broker (or of several hosts) and counts what they generate."""

    def __init__(self, urls: Sequence[str], folder: Path) -> None:
        self.urls = list(urls)
        self.nodes: list[FleetNode] = []
        self._folder = folder
        self._callers: list[asyncio.subprocess.Process] = []
        self._will = LastWill()
        self._generations_path = folder / "generations.jsonl"
        self._generations = GenerationLog(self._generations_path)

    async def start(
        self, name: str = "one", *, urls: Sequence[str] | None = None, **settings: str
    ) -> FleetNode:
        """Start a node and wait until it takes requests."""
        node = self.launch(name, urls=urls, **settings)
        await node.ready()
        return node

    def launch(
        self, name: str = "one", *, urls: Sequence[str] | None = None, **settings: str
    ) -> FleetNode:
        """Start a node without waiting for it; `settings` are those of `Settings`, as text."""
        given = QUICK | {"instance_id": name, "paced_log": str(self._generations_path)} | settings
        process = NodeProcess(",".join(urls or self.urls), self._folder, **given)
        given["amqp_url"] = ",".join(urls or self.urls)
        node = FleetNode(process, name, given)
        self.nodes.append(node)
        self._leave_nothing_behind()
        return node

    async def restart(self, node: FleetNode) -> FleetNode:
        """Start a node that ended once more, with the settings it had."""
        settings = dict(node.started_with)
        urls = settings.pop("amqp_url").split(",")
        name = settings.pop("instance_id")
        return await self.start(name, urls=urls, **settings)

    @asynccontextmanager
    async def kept_alive(self, name: str = "one", **settings: str) -> AsyncIterator[None]:
        """Start a node again whenever it ends, as a supervisor of services does."""

        async def supervise() -> None:
            while True:
                await self.launch(name, **settings).ended(SUPERVISED_SECONDS)

        before = len(self.nodes)
        async with running(supervise=supervise()):
            await until(lambda: len(self.nodes) > before, f"{name} is launched")
            await self.nodes[before].ready()
            yield

    async def caller_process(self, *words: str) -> asyncio.subprocess.Process:
        """Start `text2image-node submit`, a caller that can be killed; it prints the result."""
        environment = {**os.environ, "NODE_AMQP_URL": ",".join(self.urls)}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "node", "submit", "--json", *words),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._callers.append(process)
        self._leave_nothing_behind()
        return process

    def generations(self) -> list[Generation]:
        """Return the begins and ends of all generations so far."""
        return self._generations.read()

    def generated(self, job_id: str, what: str = "started") -> int:
        """Count how often a job was begun (or `finished`)."""
        return self._generations.count(job_id, what)

    async def begun(self, job_id: str, times: int = 1) -> Generation:
        """Wait until a job was begun so many times; return the latest begin."""
        await until(lambda: self.generated(job_id) >= times, f"{job_id} begins {times} times")
        begins = [g for g in self.generations() if (g.job_id, g.what) == (job_id, "started")]
        return begins[times - 1]

    def node(self, name: str) -> FleetNode:
        """Find the latest node of this name."""
        return next(node for node in reversed(self.nodes) if node.name == name)

    def crashes(self) -> list[str]:
        """Return what nodes logged as critical: that is always a bug."""
        lines = [(node.name, line) for node in self.nodes for line in node.log()]
        return [f"{name}: {line}" for name, line in lines if line["level"] == "critical"]

    def close(self) -> None:
        """End every node and every caller process."""
        for caller in self._callers:
            if caller.returncode is None:
                caller.kill()
        for node in self.nodes:
            node.close()
        self._will.revoke()

    def _leave_nothing_behind(self) -> None:
        """See to it that no process outlives a test run that is killed."""
        left = [node.pid for node in self.nodes if node.exit_code is None]
        left += [caller.pid for caller in self._callers if caller.returncode is None]
        self._will.write(*(["kill", "-KILL", str(pid)] for pid in left))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
