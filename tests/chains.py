"""A mega-service and its scripted services, for suites."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from contracts.megaservice import MegaServiceResult
from contracts.message import AnyMessage
from contracts.result import AnyResult, JobResult, Status
from node.client import Client
from node.component import Component, Invocation, ReportLoad
from node.errors import JobStopped
from node.ports import Broker
from node.settings import Settings
from orchestrator_example.graph import ServiceGraph, Stage
from orchestrator_example.kinds import Kinds
from orchestrator_example.megaservice import MegaService
from tests.harness import NodeHandle, World

TEXT = Kinds({"text": "text"}, {"text": "text"})

Answer = Callable[[dict[str, Any], Invocation], Mapping[str, Any]]


class StageService(Component):
    """A service that answers as a test says, and knows what it did.

    `hold` keeps jobs from ending until it is cleared.
    """

    service_type = "SCRIPTED"
    description = "Scripted"
    request_model = AnyMessage
    result_model = AnyResult
    slots = 8

    def __init__(self, name: str, answer: Answer) -> None:
        self.name = name  # type: ignore[misc]
        self._answer = answer
        self.begun: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.stopped: list[tuple[str, Status]] = []
        self.requests: list[dict[str, Any]] = []
        self.invocations: list[Invocation] = []
        self.hold = False

    async def load(self, report: ReportLoad) -> None:
        pass

    async def invoke(self, request: Any, invocation: Invocation) -> JobResult:
        self.begun[invocation.job_id] += 1
        self.requests.append(dict(request.model_extra))
        self.invocations.append(invocation)
        invocation.inference_step(1, 2)
        while True:
            if (status := invocation.stop_requested()) is not None:
                self.stopped.append((invocation.job_id, status))
                raise JobStopped(status)
            if not self.hold:
                break
            await asyncio.sleep(0.01)
        fields = self._answer(self.requests[-1], invocation)
        self.done[invocation.job_id] += 1
        return AnyResult(job_id=invocation.job_id, status=Status.SUCCEEDED, **fields)


def shouting(request: dict[str, Any], _: Invocation) -> dict[str, Any]:
    """Answer with the text in capitals."""
    return {"text": request["text"].upper()}


class ChainWorld:
    """Services and orchestrators around one broker; every service name is this test's own."""

    def __init__(self, world: World, connect: Callable[[], Broker]) -> None:
        self._world = world
        self._connect = connect
        self._suffix = uuid4().hex[:8]
        self.name = f"mega-{self._suffix}"

    def stage(self, name: str, **fields: Any) -> Stage:
        """Make a stage whose service is this test's own."""
        fields.setdefault("kinds", TEXT)
        return Stage(name, self.service(name), **fields)

    def service(self, name: str) -> str:
        """Name the service of a stage."""
        return f"{name}-{self._suffix}"

    async def serve(self, name: str, answer: Answer = shouting, **settings: Any) -> StageService:
        """Start a node with a scripted service."""
        component = StageService(self.service(name), answer)
        await self._world.node(component, **settings)
        return component

    async def orchestrate(self, graph: ServiceGraph, **settings: Any) -> NodeHandle:
        """Start an orchestrator of a graph."""
        return await self._world.node(self.megaservice(graph, **settings), **settings)

    def megaservice(self, graph: ServiceGraph, **settings: Any) -> MegaService:
        """Make the component of an orchestrator."""
        served = type("Served", (MegaService,), {"graph": graph, "name": self.name})
        component: MegaService = served(Settings(**settings), self._connect())
        return component

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Open a client of the mega-service."""
        async with Client(await self._world.broker(), self.name, MegaServiceResult).running() as c:
            yield c
