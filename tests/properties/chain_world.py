"""Chains on virtual time: real orchestrators and services, of which one dies at a chosen await."""

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final
from unittest.mock import patch

from contracts.control import CancelRequest
from contracts.megaservice import MegaServiceRequest, MegaServiceResult
from contracts.result import JobResult
from contracts.topology import CONTROL, request_queues, service_topology, unanswered_queue
from node.client import Client
from node.component import Component, Invocation
from node.errors import GenerationFailed, JobNotSucceeded
from node.execution import Execution
from node.ports import OutgoingMessage, ResultStore, Subscribed
from node.settings import Settings
from node.stores.recent import RecentResults
from node.stores.results import FsspecResultStore
from node.stores.shared import SharedResults
from node.tasks import running
from node.telemetry.metrics import Metrics
from node.worker import Worker
from orchestrator_example.megaservice import MegaService
from tests.chains import StageService
from tests.fakes import Fault, InMemoryBroker, InMemoryServer
from tests.faults.harness.chain_services import SERVICES, chain_graph, job_number
from tests.properties import virtual_time
from tests.properties.objects import InMemoryObjects
from tests.properties.scenarios import KillAtAwait
from tests.properties.virtual_time import VirtualClock
from tests.properties.weather import Weather

CHAIN: Final = "chain"
CHAIN_ID: Final = "one-chain"
REPLACED_SECONDS: Final = 3.0
"""After so long a supervisor starts another process in the place of one that died."""
PATIENCE_SECONDS: Final = 300.0
SETTLED_SECONDS: Final = 60.0


class ChainWorld:
    """What becomes of one chain while processes die, and what was done for it.

    Unless services are `sharing` what they know, they forget it soon, and only orchestrators die.
    """

    def __init__(
        self, request: MegaServiceRequest, sharing: bool = True, publish_seconds: float = 0.0
    ) -> None:
        self.request = request
        self.sharing = sharing
        self.server = InMemoryServer()
        self.weather = ChainWeather(publish_seconds)
        self.result_at = 0.0
        self.objects: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.begun: Counter[str] = Counter()
        self.repeated: list[str] = []
        self.ended: list[tuple[str, float]] = []
        self.deaths: list[str] = []
        self.result: JobResult | None = None
        self.unhandled: list[dict[str, Any]] = []
        self.processes: list[Process] = []

    def was_answered(self, job_id: str) -> bool:
        """Say whether an answer of this job is kept anywhere."""
        digest = hashlib.sha256(job_id.encode()).hexdigest()
        start = f"results/{digest[:2]}/{digest}/result-"
        return any(name.startswith(start) for held in self.objects.values() for name in held)

    def start(self, name: str, number: int) -> None:
        """Start a process that serves this service."""
        self.processes.append(Process(f"{name}-{number}", name, self))

    async def live(
        self, kills: Sequence[int], cancel_at: float | None, deaf_at: float | None
    ) -> None:
        """Have the chain done; processes die at these awaits, the caller cancels at a time.

        From another time on, the first orchestrator hears no answers.
        """
        asyncio.get_running_loop().set_exception_handler(lambda _, c: self.unhandled.append(c))
        for name in (CHAIN, *(service.name for service in SERVICES)):
            self.server.declare(service_topology(name))
            for number in (1, 2):
                self.start(name, number)
        client = Client(InMemoryBroker(self.server), CHAIN, MegaServiceResult)
        async with client.running(), asyncio.timeout(PATIENCE_SECONDS):
            await client.submit(self.request, job_id=CHAIN_ID)
            for skip in kills:
                self.weather.expect(KillAtAwait(skip))
            if cancel_at is not None:
                asyncio.get_running_loop().call_later(cancel_at, self._cancel)
            if deaf_at is not None:
                asyncio.get_running_loop().call_later(deaf_at, self.processes[0].lose_services)
            try:
                self.result = await client.result(CHAIN_ID)
            except JobNotSucceeded as ended:
                self.result = ended.result
            self.result_at = asyncio.get_running_loop().time()
            self.weather.clear_up()
            await asyncio.sleep(SETTLED_SECONDS)
        await asyncio.gather(*(process.end() for process in self.processes))

    def _cancel(self) -> None:
        command = CancelRequest(job_id=CHAIN_ID)
        self.server.publish(OutgoingMessage(CONTROL, "", command.to_json()))


class ChainWeather(Weather):
    """The broker takes its time for each message."""

    def __init__(self, publish_seconds: float) -> None:
        super().__init__([0])
        self._publish_seconds = publish_seconds

    async def at(self, party: Any, *possible: Fault) -> Fault | None:
        if Fault.NOT_PUBLISHED in possible:
            await asyncio.sleep(self._publish_seconds)
        return await super().at(party, *possible)


class Process:
    """One life of a node, orchestrator or service; what it holds in memory dies with it."""

    def __init__(self, name: str, service: str, world: ChainWorld) -> None:
        self.name = name
        self.dead = False
        self.mortal = world.sharing or service == CHAIN
        self._service = service
        self._world = world
        inject = partial(world.weather.at, self)
        self._broker = InMemoryBroker(world.server, inject)
        store = patch(
            "node.stores.results.Objects",
            lambda url, _: InMemoryObjects(world.objects[url], inject),
        )
        with store:
            self._component = self._make_component()
            self._make_worker()
        self._task = asyncio.create_task(self._run(), name=name)

    async def thawed(self) -> None:
        """Processes here are not stopped."""

    def kill(self) -> None:
        """End as SIGKILL ends a process; a supervisor starts another one."""
        if self.dead:
            return
        self.dead = True
        self._world.deaths.append(self.name)
        self._broker.die()
        crew: Any = self._worker._tasks
        crew.start = crew.spawn = lambda coroutine: coroutine.close()
        loop = asyncio.get_running_loop()
        loop.call_soon(self._task.cancel)
        loop.call_later(REPLACED_SECONDS, self._world.start, self._service, len(self.name))

    async def end(self) -> None:
        """End it, however it is."""
        self.dead = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def lose_services(self) -> None:
        """Have an orchestrator hear no answer any more."""
        life = getattr(self._component, "_life", None)
        if life is not None:
            life.cancel()

    def _make_component(self) -> Component:
        if self._service != CHAIN:
            return CountedService(self._service, self._world)
        members = {"graph": chain_graph(), "name": CHAIN}
        served: Any = type("Served", (MegaService,), members)(SHARED, self._broker)
        served._clock = VirtualClock()
        return served  # type: ignore[no-any-return]

    def _make_worker(self) -> None:
        clock, metrics, component = VirtualClock(), Metrics(), self._component
        settings = SHARED.completed(slots=component.slots)
        queues = (*request_queues(self._service, []), unanswered_queue(self._service))
        self._inbox = self._broker.inbox(queues, settings.slots + settings.look_ahead)
        self._control = self._broker.subscription([Subscribed(CONTROL)])
        kept = 1000 if self.mortal else 1
        self._results: ResultStore = RecentResults(kept, 10**9, 10**6, clock)
        if self.mortal:
            now, model = clock.monotonic, component.result_model
            shared = FsspecResultStore("shared", self.name, model, monotonic=now)
            self._results = SharedResults(self._results, shared, monotonic=now)
        execution = Execution(
            component,
            settings=settings,
            instance_id=self.name,
            clock=clock,
            metrics=metrics,
            store=None,
        )
        self._worker = Worker(
            component,
            self._inbox,
            self._broker.outbox,
            self._results,
            execution,
            settings=settings,
            clock=clock,
            metrics=metrics,
        )

    async def _run(self) -> None:
        try:
            await self._component.load(lambda _: None)
            async with running(
                inbox=self._inbox.run(),
                results=self._results.run(),
                control=self._obey(),
                unfit=self._drain_when_unfit(),
            ):
                await self._worker.run()
        finally:
            await self._component.close()

    async def _drain_when_unfit(self) -> None:
        await self._worker.unfit.wait()
        await self._worker.drain(0.0)
        await asyncio.Event().wait()

    async def _obey(self) -> None:
        async with running(control=self._control.run()):
            async for message in self._control:
                self._worker.cancel(CancelRequest.model_validate_json(message.body).job_id)


class CountedService(StageService):
    """Answers as the service of this name in `chain_services`; what it begins is counted."""

    def __init__(self, name: str, world: ChainWorld) -> None:
        super().__init__(name, self._answer)
        self._world = world
        self._model = next(service for service in SERVICES if service.name == name)

    async def invoke(self, request: Any, invocation: Invocation) -> JobResult:
        job_id = invocation.job_id
        if self._world.was_answered(job_id):
            self._world.repeated.append(job_id)
        self._world.begun[job_id] += 1
        await asyncio.sleep(request.model_extra.get("seconds", 1.0))
        result = await super().invoke(request, invocation)
        self._world.ended.append((job_id, asyncio.get_running_loop().time()))
        return result

    def _answer(self, fields: dict[str, Any], invocation: Invocation) -> Mapping[str, Any]:
        if job_number(invocation.job_id) <= fields.get("failures", 0):
            raise GenerationFailed("the request asked for it")
        return self._model.answer(self, fields)  # type: ignore[arg-type]


SHARED: Final = Settings(result_store="shared", result_seconds=10**6, recent_results=1000)


def live(
    request: MegaServiceRequest,
    *kills: int,
    sharing: bool = True,
    cancel_at: float | None = None,
    deaf_at: float | None = None,
    publish_seconds: float = 0.0,
) -> ChainWorld:
    """Let a chain happen from beginning to end, on virtual time."""

    async def begin() -> ChainWorld:
        world = ChainWorld(request, sharing, publish_seconds)
        await world.live(kills, cancel_at, deaf_at)
        return world

    with patch("asyncio.to_thread", _at_once):
        return virtual_time.run(begin())


async def _at_once(call: Any, *args: Any) -> Any:
    return call(*args)
