"""The compose demo under a name and on ports of its own, and the callers who look at it."""

import json
import os
import re
import shlex
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
UP_SECONDS = 1800.0
"""The first build fetches torch."""
PATIENCE_SECONDS = 180.0
NODES = ("text2image", "image2image", "prompt-writer", "guardrail", "captioner", "gateway")


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP."""

    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Stack:
    """`docker compose` on the real file."""

    def __init__(self, project: str) -> None:
        self.gateway_port, self._management_port = _free_ports(2)
        self._project = project

    def compose(self, *arguments: str, timeout_seconds: float = PATIENCE_SECONDS) -> str:
        """Run a command of compose; return what it printed."""
        ports = {"GATEWAY_PORT": self.gateway_port, "MANAGEMENT_PORT": self._management_port}
        return _run(
            ["docker", "compose", "--project-name", self._project, *arguments],
            environment={
                # Many processes on few cores: tests want steady, not fast.
                "OMP_NUM_THREADS": "1",
                **os.environ,
                **{name: str(port) for name, port in ports.items()},
            },
            timeout_seconds=timeout_seconds,
        )

    def up(self, *arguments: str) -> None:
        """Start what is not there, and wait until all of it is healthy."""
        self.compose("up", "--wait", *arguments, timeout_seconds=UP_SECONDS)

    def down(self) -> None:
        """Remove containers, networks and volumes."""
        self.compose("down", "--volumes", "--timeout", "10")

    def containers(self, service: str) -> list[str]:
        """List the ids of a service's containers."""
        return self.compose("ps", "--all", "--quiet", "--no-trunc", service).split()

    def container(self, service: str) -> str:
        """Return the id of a service's only container."""
        (container,) = self.containers(service)
        return container

    def inspect(self, container: str) -> Any:
        """Ask Docker what it knows of a container."""
        (known,) = json.loads(_run(["docker", "inspect", container]))
        return known

    def log(self, container: str) -> list[dict[str, Any]]:
        """Read what a node logged so far; it logs to stderr."""
        lines = _run(["docker", "logs", container], stderr=subprocess.STDOUT).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def logged(self, container: str, event: str, **fields: Any) -> int:
        """Count log lines."""
        wanted = {"event": event, **fields}.items()
        return sum(wanted <= line.items() for line in self.log(container))

    def inside(
        self, container: str, *command: str, environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in a container, whatever it ends with."""
        options = [f"--env={name}={value}" for name, value in (environment or {}).items()]
        return subprocess.run(
            ["docker", "exec", *options, container, *command],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def kill(self, container: str) -> None:
        """End a container at once."""
        _run(["docker", "kill", "--signal", "KILL", container])

    def ask(
        self, path: str, body: Any = None, *, method: str | None = None, **headers: str
    ) -> Answer:
        """Ask the gateway; a body goes as JSON."""
        data = None if body is None else json.dumps(body).encode()
        return self._answer(
            urllib.request.Request(
                f"http://127.0.0.1:{self.gateway_port}{path}",
                data,
                {"Content-Type": "application/json", **headers},
                method=method,
            )
        )

    def curl(self, line: str) -> Answer:
        """Do what a line of the documentation does, on the port of this stack."""
        words = shlex.split(line)
        url = next(word for word in words if word.startswith("http://"))
        headers = dict(words[i + 1].split(": ", 1) for i, w in enumerate(words) if w == "-H")
        data = words[words.index("-d") + 1].encode()
        url = url.replace(":9379/", f":{self.gateway_port}/")
        return self._answer(urllib.request.Request(url, data, headers))

    def _answer(self, request: urllib.request.Request) -> Answer:
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                return Answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read())

    def submit(self, service: str, request: Mapping[str, Any], **headers: str) -> str:
        """Submit a job and return its id."""
        answer = self.ask("/v1/jobs", {"service": service, "request": request}, **headers)
        assert answer.status == 202, answer.body
        return str(answer.json()["id"])

    def job(self, job_id: str) -> Any:
        """Look where a job is."""
        return self.ask(f"/v1/jobs/{job_id}").json()

    def succeeded(self, job_id: str) -> Any:
        """Wait for the end of a job that should succeed; return its result."""
        until(
            lambda: self.job(job_id)["status"] not in ("queued", "running"), f"the end of {job_id}"
        )
        ended = self.job(job_id)
        assert ended["status"] == "succeeded", ended["error"]
        return ended["result"]

    def events(self, job_id: str) -> list[str]:
        """Name every event of a job that has ended."""
        stream = self.ask(f"/v1/jobs/{job_id}/events").body.decode()
        return re.findall(r"^event: (\S+)$", stream, re.MULTILINE)

    def instances(self) -> dict[str, int]:
        """Count the live instances of each service, as the gateway sees them."""
        listed = self.ask("/v1/services").json()["services"]
        return {each["name"]: each["instances"] for each in listed}


def documented_curl() -> str:
    """Find the command that the README tells people to type."""
    text = README.read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^curl .*http://127\S+/v1/text2image .*$", text, re.MULTILINE)
    return str(line)


def until(condition: Callable[[], Any], what: str) -> None:
    """Wait until a condition holds, with a bound."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, f"{what} did not come in {PATIENCE_SECONDS} s"
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _run(
    command: Sequence[str],
    environment: Mapping[str, str] = os.environ,
    timeout_seconds: float = PATIENCE_SECONDS,
    stderr: int = subprocess.PIPE,
) -> str:
    done = subprocess.run(
        command,
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    said = f"{done.stdout[-4000:]}{(done.stderr or '')[-4000:]}"
    assert done.returncode == 0, f"{shlex.join(command)}: {said}"
    return done.stdout
