"""`python -m benchmarks.gateway`: what HTTP costs over messages, and how responsive it stays.

Expects a broker in NODE_AMQP_URL. First a node that does nothing: calls through a gateway process
and through `node.client` in turns, so that both meet the same machine. Then a real node with a
random-weight checkpoint: health is asked for by a process of its own while pictures are made, and
while two hundred callers wait. At last gateways that take fewer. Compare ratios only.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
from rich.console import Console

from contracts.result import JobResult, Status
from contracts.text2image import TEXT2IMAGE, Text2ImageRequest, Text2ImageResult
from deploy.broker_place import free_ports
from node.client import Client
from node.component import Component, Invocation, ReportLoad
from node.log import configure_logging
from node.settings import Settings

READY_SECONDS: Final = 120.0
CALL_SECONDS: Final = 600.0
PROMPT: Final = "An astronaut riding a green horse"
DOOR: Final = f"/v1/{TEXT2IMAGE}"
HEALTH: Final = ("/health", "/v1/health_check")
STEPS: Final = 100
FEW: Final = 60
"""How many a gateway takes that does not take everybody."""

console = Console(highlight=False)


class Blank(Component):
    """Makes no picture, at once."""

    name = TEXT2IMAGE
    service_type = "TEXT2IMAGE"
    description = "Answers without a picture"
    request_model = Text2ImageRequest
    result_model = Text2ImageResult
    slots = 64

    def __init__(self, settings: Settings) -> None:
        """Take no settings."""

    async def load(self, report: ReportLoad) -> None:
        """Nothing to load."""

    async def invoke(self, request: Any, invocation: Invocation) -> JobResult:
        """Answer."""
        return Text2ImageResult(job_id=invocation.job_id, status=Status.SUCCEEDED)


@asynccontextmanager
async def _process(*words: str, **environment: str) -> AsyncIterator[None]:
    """Run a process of ours inside the context."""
    given = {"NODE_LOG_LEVEL": "ERROR", "NODE_HTTP_PORT": "0", "OMP_NUM_THREADS": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *words, env=os.environ | given | environment
    )
    try:
        yield
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


@asynccontextmanager
async def _gateway(**settings: str) -> AsyncIterator[httpx.AsyncClient]:
    """Run a gateway process, and yield a caller once a node is there."""
    (port,) = free_ports(1)
    environment = {"GATEWAY_PORT": str(port), "GATEWAY_MEGASERVICES": "[]"}
    environment |= {f"GATEWAY_{name.upper()}": value for name, value in settings.items()}
    limits = httpx.Limits(max_connections=None)
    async with (
        _process("orchestrator_example", "serve", **environment),
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=CALL_SECONDS, limits=limits
        ) as caller,
    ):
        async with asyncio.timeout(READY_SECONDS):
            while not await _is_served(caller):  # noqa: ASYNC110 - readiness is asked for
                await asyncio.sleep(0.1)
        yield caller


async def _is_served(caller: httpx.AsyncClient) -> bool:
    try:
        answer = await caller.post(DOOR, json={"prompt": PROMPT, "num_inference_steps": 1})
    except httpx.ConnectError:
        return False
    return answer.status_code == httpx.codes.OK


@asynccontextmanager
async def _polled(caller: httpx.AsyncClient) -> AsyncIterator[dict[str, list[float]]]:
    """Ask for health all the while; the answers' seconds are there afterwards."""
    urls = [str(caller.base_url.join(path)) for path in HEALTH]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.polling", *urls),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    seconds: dict[str, list[float]] = {}
    try:
        yield seconds
    finally:
        said, _ = await process.communicate(b"")
    seconds |= dict(zip(HEALTH, json.loads(said).values(), strict=True))


async def _overhead(caller: httpx.AsyncClient, rounds: int) -> dict[str, Any]:
    """Make calls through the gateway and without it, in turns."""
    through, direct = [], []
    async with Client.connect(*_urls()) as client:
        for _ in range(rounds):
            started_at = time.perf_counter()
            answer = await caller.post(DOOR, json={"prompt": PROMPT})
            through.append(time.perf_counter() - started_at)
            assert answer.status_code == httpx.codes.OK, answer.text
            started_at = time.perf_counter()
            await client.result(await client.submit(Text2ImageRequest(prompt=PROMPT)), 60)
            direct.append(time.perf_counter() - started_at)
    gateway_seconds, client_seconds = statistics.median(through), statistics.median(direct)
    return {
        "rounds": rounds,
        "gateway_seconds": gateway_seconds,
        "client_seconds": client_seconds,
        "ratio_gateway_over_client": gateway_seconds / client_seconds,
        "overhead_seconds": gateway_seconds - client_seconds,
    }


async def _while_pictures_are_made(caller: httpx.AsyncClient, pictures: int) -> dict[str, Any]:
    body = {"prompt": PROMPT, "num_inference_steps": STEPS}
    async with _polled(caller) as seconds:
        for _ in range(pictures):
            answer = await caller.post(DOOR, json=body)
            assert answer.status_code == httpx.codes.OK, answer.text
    return _latencies(seconds)


async def _while_callers_wait(caller: httpx.AsyncClient, callers: int) -> dict[str, Any]:
    body = {"prompt": PROMPT, "num_inference_steps": 2}
    started_at = time.perf_counter()
    async with _polled(caller) as seconds:
        answers = await asyncio.gather(*(caller.post(DOOR, json=body) for _ in range(callers)))
    refused = [each for each in answers if each.status_code != httpx.codes.OK]
    assert all("retry-after" in each.headers for each in refused), "a refusal without Retry-After"
    return {
        "answers": dict(sorted(Counter(each.status_code for each in answers).items())),
        "seconds": time.perf_counter() - started_at,
        **_latencies(seconds),
    }


def _latencies(seconds: dict[str, list[float]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, taken in seconds.items():
        ordered = sorted(taken)
        found[path] = {
            "asked": len(ordered),
            "median_seconds": statistics.median(ordered),
            "p99_seconds": ordered[int(len(ordered) * 0.99)],
            "max_seconds": ordered[-1],
        }
    return found


async def _measure(model: str, options: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, Any] = {}

    async def note(name: str, measuring: Awaitable[dict[str, Any]]) -> None:
        figures[name] = await measuring
        console.print(f"{name}: {json.dumps(figures[name], indent=2)}")

    blank = _process("node", "serve", NODE_COMPONENT="benchmarks.gateway:Blank")
    async with blank, _gateway() as caller:
        await note("overhead", _overhead(caller, options.rounds))
    async with _process("node", "serve", NODE_MODEL=model):
        async with _gateway() as caller:
            await note("pictures", _while_pictures_are_made(caller, options.pictures))
            await note("callers", _while_callers_wait(caller, options.callers))
        async with _gateway(max_jobs=str(FEW)) as caller:
            await note(f"room for {FEW}", _while_callers_wait(caller, options.callers))
        async with _gateway(concurrent=str(FEW)) as caller:
            await note(f"{FEW} a caller", _while_callers_wait(caller, options.callers))
    return figures


def _urls() -> list[str]:
    return os.environ.get("NODE_AMQP_URL", "amqp://guest:guest@localhost:5672/").split(",")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--model", help="model folder; default: a random-weight checkpoint")
    parser.add_argument("--rounds", type=int, default=200, help="calls on each side")
    parser.add_argument("--pictures", type=int, default=10, help="pictures, one after the other")
    parser.add_argument("--callers", type=int, default=200, help="callers at the same time")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    configure_logging("console", "ERROR")
    with TemporaryDirectory() as folder:
        model = options.model or str(Path(folder) / "random-model")
        if not options.model:
            build = [sys.executable, "-m", "tests.checkpoints", "sd", model]
            subprocess.run(build, check=True, capture_output=True)
        figures = asyncio.run(_measure(model, options))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
