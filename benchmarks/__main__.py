"""`make bench`: what the node costs over calling the pipeline directly, and how responsive it is.

Expects a broker in NODE_AMQP_URL. Pictures are made in turns: one by the bare Diffusers call in
this process, one by a node process through RabbitMQ, with the same model, steps, dtype, threads
and PNG encoder, so that both meet the same machine. Figures are medians; compare ratios only.
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
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.direct import DirectPipeline
from contracts.discovery import NodeState
from contracts.text2image import Text2ImageRequest, Text2ImageResult
from node.amqp.broker import AmqpBroker
from node.app import SystemClock
from node.client import Client
from node.discovery.directory import ServiceDirectory
from node.log import configure_logging
from node.tasks import running

BUSY_PERCENT: Final = 10.0
READY_SECONDS: Final = 300.0
POLL_SECONDS: Final = 0.02

console = Console(highlight=False)


def main() -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--model", help="model folder; default: a random-weight checkpoint")
    parser.add_argument("--rounds", type=int, default=15, help="pictures on each side")
    parser.add_argument("--steps", type=int, default=100, help="inference steps of a picture")
    parser.add_argument("--anyway", action="store_true", help="measure on a busy machine, too")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    others = psutil.cpu_percent(interval=2.0)
    if others > BUSY_PERCENT and not options.anyway:
        console.print(
            f"other processes use {others:.0f} % of the CPU: figures would mean nothing. "
            "Stop them, or say --anyway."
        )
        return 1
    configure_logging("console", "ERROR")
    with TemporaryDirectory() as folder:
        model = options.model or _random_checkpoint(Path(folder))
        figures = asyncio.run(_measure(model, options.rounds, options.steps))
    figures["cpu_percent_of_others_before"] = others
    _report(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _random_checkpoint(folder: Path) -> str:
    model = str(folder / "random-model")
    build = [sys.executable, "-m", "tests.checkpoints", "sd", model]
    subprocess.run(build, check=True, capture_output=True)
    return model


async def _measure(model: str, rounds: int, steps: int) -> dict[str, Any]:
    urls = os.environ.get("NODE_AMQP_URL", "amqp://guest:guest@localhost:5672/").split(",")
    direct = DirectPipeline(model)
    async with _node(model, urls) as http_port, Client.connect(*urls) as client:
        request = Text2ImageRequest(
            prompt="An astronaut riding a green horse", seed=1, num_inference_steps=steps
        )
        result = await _through_the_node(client, request)
        await direct.load(result[1].node.dtype if result[1].node else None)
        await direct.make(request)
        ours, bare, overheads = [], [], []
        for _ in range(rounds):
            bare.append(await direct.make(request))
            seconds, answer = await _through_the_node(client, request)
            ours.append(seconds)
            overheads.append(seconds - answer.timings.total_seconds)
        health = await _poll_while_generating(client, request, http_port)
    ratios = [
        ours_seconds / bare_seconds for ours_seconds, bare_seconds in zip(ours, bare, strict=True)
    ]
    return {
        "model": Path(model).name,
        "rounds": rounds,
        "num_inference_steps": steps,
        "direct_seconds": statistics.median(bare),
        "node_seconds": statistics.median(ours),
        "ratio_node_over_direct": statistics.median(ratios),
        "ratio_quartiles": statistics.quantiles(ratios, n=4)[::2],
        "messaging_seconds": statistics.median(overheads),
        **health,
    }


async def _through_the_node(
    client: Client, request: Text2ImageRequest
) -> tuple[float, Text2ImageResult]:
    started_at = time.perf_counter()
    result = await client.result(await client.submit(request), 300)
    return time.perf_counter() - started_at, result


async def _poll_while_generating(
    client: Client, request: Text2ImageRequest, http_port: int
) -> dict[str, Any]:
    """Ask for readiness all the while a few pictures are being made."""
    base = f"http://127.0.0.1:{http_port}"
    await asyncio.to_thread(_get, f"{base}/metrics")  # starts a new window of the lag gauge
    making = asyncio.gather(*[_through_the_node(client, request) for _ in range(4)])
    seconds = []
    while not making.done():
        started_at = time.perf_counter()
        await asyncio.to_thread(_get, f"{base}/health/ready")
        seconds.append(time.perf_counter() - started_at)
        await asyncio.sleep(POLL_SECONDS)
    await making
    metrics = await asyncio.to_thread(_get, f"{base}/metrics")
    lag = next(
        float(line.split()[1])
        for line in metrics.splitlines()
        if line.startswith("text2image_node_event_loop_lag_seconds")
    )
    return {
        "ready_answers": len(seconds),
        "ready_seconds_median": statistics.median(seconds),
        "ready_seconds_max": max(seconds),
        "event_loop_lag_seconds_max": lag,
    }


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


@asynccontextmanager
async def _node(model: str, urls: list[str]) -> AsyncIterator[int]:
    """Serve the model in a process of its own; yields its HTTP port."""
    instance_id = f"bench-{os.getpid()}"
    environment = os.environ | {
        "NODE_MODEL": model,
        "NODE_INSTANCE_ID": instance_id,
        "NODE_HTTP_PORT": "0",
        "NODE_LOG_LEVEL": "WARNING",
        "NODE_LOG_FORMAT": "console",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "node", "serve", env=environment
    )
    try:
        yield await _http_port_when_ready(instance_id, urls)
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def _http_port_when_ready(instance_id: str, urls: list[str]) -> int:
    broker = AmqpBroker(urls)
    directory = ServiceDirectory(broker, SystemClock())
    async with broker.running(), running(directory=directory.run()):
        async with asyncio.timeout(READY_SECONDS):
            while True:
                for entry in directory.services():
                    about = entry.metadata
                    if entry.instance_id == instance_id and about.state is NodeState.READY:
                        assert about.http_port is not None
                        return about.http_port
                await directory.wait_for_change()


def _report(figures: dict[str, Any]) -> None:
    table = Table(title="the node over the bare pipeline call, taken in turns")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
