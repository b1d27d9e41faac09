"""`python -m benchmarks.chains`: what the orchestrator costs over asking the services oneself.

Expects a broker in NODE_AMQP_URL. Services do nothing, so that all that is measured is messaging:
a chain of three stages in the orchestrator against three jobs one after the other by a client, in
turns; then many chains at once. Everything runs in one process. Compare ratios only.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final
from uuid import uuid4

from rich.console import Console

from contracts.megaservice import MegaServiceRequest, MegaServiceResult
from contracts.message import AnyMessage
from contracts.result import AnyResult, JobResult, Status
from node.app import Node, make_broker
from node.client import Client
from node.component import Component, ComponentLoader, ComponentRegistry, Invocation, ReportLoad
from node.log import configure_logging
from node.settings import Settings
from node.tasks import running
from orchestrator_example.graph import ServiceGraph, Stage
from orchestrator_example.kinds import Kinds
from orchestrator_example.megaservice import MegaService

STAGES: Final = 3
SUFFIX: Final = uuid4().hex[:8]
ECHO: Final = f"echo-{SUFFIX}"
TEXT: Final = Kinds({"text": "text"}, {"text": "text"})

console = Console(highlight=False)


class Echo(Component):
    """Answers at once."""

    name = ECHO
    service_type = "ECHO"
    description = "Answers with the text"
    request_model = AnyMessage
    result_model = AnyResult
    slots = 64

    async def load(self, report: ReportLoad) -> None:
        """Nothing to load."""

    async def invoke(self, request: Any, invocation: Invocation) -> JobResult:
        """Answer."""
        done = Status.SUCCEEDED
        return AnyResult(job_id=invocation.job_id, status=done, **request.model_extra)


def _line() -> ServiceGraph:
    names = [f"stage-{number}" for number in range(STAGES)]
    graph = ServiceGraph()
    for name in names:
        graph = graph.add(Stage(name, ECHO, kinds=TEXT))
    return graph.follow([" >> ".join(names)])


class Line(MegaService):
    """Three stages one after the other."""

    name = f"line-{SUFFIX}"
    graph = _line()


@asynccontextmanager
async def _served(component: Component, settings: Settings) -> AsyncIterator[None]:
    node = Node(settings, component, make_broker(settings))
    async with running(node=node.run(ComponentLoader(ComponentRegistry(), settings))):
        while node.reasons_not_ready():  # noqa: ASYNC110 - readiness is asked for
            await asyncio.sleep(0.01)
        yield


async def _chain(client: Client) -> None:
    await client.result(await client.submit(MegaServiceRequest(prompt="x")), 60)


async def _by_hand(client: Client) -> None:
    text = "x"
    for _ in range(STAGES):
        request = AnyMessage.model_validate({"text": text})
        text = (await client.result(await client.submit(request), 60)).text


async def _seconds(work: Any) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


async def _measure(rounds: int, at_once: int, store: str | None) -> None:
    settings = Settings(http_port=0, result_store=store)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_served(Echo(), settings))
        await stack.enter_async_context(_served(Line(settings), settings))
        broker = make_broker(settings)
        await stack.enter_async_context(broker.running())
        line = await stack.enter_async_context(
            Client(broker, Line.name, MegaServiceResult).running()
        )
        echo = await stack.enter_async_context(Client(broker, ECHO, AnyResult).running())
        chains, by_hand = [], []
        for _ in range(rounds):
            chains.append(await _seconds(_chain(line)))
            by_hand.append(await _seconds(_by_hand(echo)))
        chain, hand = statistics.median(chains), statistics.median(by_hand)
        all_at_once = await _seconds(asyncio.gather(*(_chain(line) for _ in range(at_once))))
    console.print(
        f"{'with' if store else 'without'} a result store: a chain of {STAGES} takes "
        f"{chain * 1000:.1f} ms, {chain / hand:.2f} times the {hand * 1000:.1f} ms by hand; "
        f"{at_once / all_at_once:.0f} chains a second, {at_once} at once"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chains", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="chains on each side")
    parser.add_argument("--at-once", type=int, default=400, help="chains at the same time")
    options = parser.parse_args()
    configure_logging("console", "ERROR")
    with tempfile.TemporaryDirectory() as folder:
        for store in (None, f"file://{folder}"):
            asyncio.run(_measure(options.rounds, options.at_once, store))


if __name__ == "__main__":
    main()
