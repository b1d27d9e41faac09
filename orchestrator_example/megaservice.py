"""A mega-service as a component: a node serves it like any other service.

So it has a queue of its own, and every guarantee of a node: a chain is a job, unacked until its
result is confirmed, dropped by nobody, done once, cancelled and expired like every job.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final
from uuid import uuid4

import structlog

from contracts.megaservice import (
    MEGASERVICE,
    MegaServiceRequest,
    MegaServiceResult,
    StageReport,
)
from contracts.message import MAX_FIELDS, Message
from contracts.result import JobResult, Status
from contracts.service import ServiceContract
from contracts.topology import CONSUMER_TIMEOUT_MS
from node.app import SWEEP_SECONDS, SystemClock, make_broker
from node.component import Component, Health, Invocation, ReportLoad
from node.errors import InternalError, InvalidRequest, JobStopped, SetupError
from node.job import stopped_problem
from node.ports import Broker, ResultStore
from node.settings import Settings
from node.tasks import running
from orchestrator_example.answer import chain_result
from orchestrator_example.calls import StageCalls
from orchestrator_example.graph import ServiceGraph
from orchestrator_example.journal import Journal, make_journal
from orchestrator_example.mapping import fixed_fields
from orchestrator_example.orchestrator import Chain
from orchestrator_example.service_clients import ServiceClients
from orchestrator_example.trace import trace_id

STOP_POLL_SECONDS: Final = 0.1

log = structlog.get_logger(__name__)


class MegaService(Component):
    """Serves one graph. Subclasses give the graph, and perhaps a name and requests of their own.

    Two of them in one process share nothing.
    """

    name: ClassVar[str] = MEGASERVICE
    service_type: ClassVar[str] = "MEGASERVICE"
    description: ClassVar[str] = "Runs each request through a graph of services"
    request_model: ClassVar[type[Message]] = MegaServiceRequest
    result_model: ClassVar[type[JobResult]] = MegaServiceResult
    slots: ClassVar[int] = 64
    has_stages: ClassVar[bool] = True
    graph: ClassVar[ServiceGraph]

    def __init__(self, settings: Settings, broker: Broker | None = None) -> None:
        if self.name in self.graph.services():
            raise SetupError(
                f"{self.name} is a stage of itself: give it, or the stage's service, another name"
            )
        self._clock = SystemClock()
        self._clients = ServiceClients(
            broker or make_broker(settings),
            self.graph.services(),
            self._clock,
            verify=settings.verify_announcers,
        )
        owner = f"{self.name}-{uuid4().hex[:12]}"
        # As long as a chain may last, at the least.
        self._answer_seconds = max(settings.result_seconds, CONSUMER_TIMEOUT_MS / 1000)
        self._answers: ResultStore = make_journal(
            settings.result_store, owner, self._answer_seconds, self._clock
        )
        self._journal = Journal(self._answers)
        self._life: asyncio.Task[None] | None = None
        self._is_durable = settings.result_store is not None

    def chosen(self, reports: Mapping[str, StageReport]) -> Sequence[str] | None:
        """Name the stages whose pictures the chain ends with; None: the last ones."""
        return None

    def contract(self) -> ServiceContract:
        """Say what travels to and from this service, and which others it cannot do without."""
        return replace(super().contract(), needs=self.graph.needed())

    async def load(self, report: ReportLoad) -> None:
        """Connect to the services of the graph. They may come later than this one."""
        if not self._is_durable:
            log.warning(
                "chains.not_durable",
                why="answers of stages are kept in memory only",
                remedy="set NODE_RESULT_STORE, so that no work is done again after a crash",
            )
        connected = asyncio.Event()
        self._life = asyncio.create_task(self._live(connected), name="megaservice")
        ready = asyncio.create_task(connected.wait())
        try:
            await asyncio.wait({ready, self._life}, return_when=asyncio.FIRST_COMPLETED)
            if not connected.is_set():
                self._life.result()
        finally:
            ready.cancel()

    def admit(self, request: Message) -> None:
        """Refuse parameters that no stage would read. Raises InvalidRequest."""
        parameters: Mapping[str, Mapping[str, Any]] = getattr(request, "parameters", {})
        names = [stage.name for stage in self.graph.stages]
        for name, fields in parameters.items():
            if name not in names:
                raise InvalidRequest(
                    f"parameters: no stage {name[:64]!r}; there are: {', '.join(names)}"
                )
            stage = self.graph.stage(name)
            fixed_names = fixed_fields(self.graph, stage)
            count = len(fields.keys() | stage.parameters.keys() | fixed_names)
            if count > MAX_FIELDS:
                raise InvalidRequest(
                    f"parameters: {count} fields for {name!r}, with those of the graph; "
                    f"at most {MAX_FIELDS} are read"
                )
            for fixed in fixed_names & fields.keys():
                raise InvalidRequest(
                    f"parameters: {fixed!r} of stage {name!r} is what the prompt "
                    "or another stage gives it"
                )

    async def invoke(self, request: Message, invocation: Invocation) -> JobResult:
        """Run the chain. Raises JobStopped when it goes on in another orchestrator."""
        log.info(
            "chain.started",
            job_id=invocation.job_id,
            trace_id=trace_id(invocation.context.headers, invocation.job_id),
        )
        chain = Chain(self.graph, request.model_dump(mode="json"), invocation.job_id)
        calls = StageCalls(self._clients, self._journal, invocation, self._clock, chain.fraction)
        stopped = await self._run(chain, calls, invocation)
        metadata = getattr(request, "metadata", {})
        result = chain_result(
            self.graph,
            chain.reports,
            invocation.job_id,
            metadata,
            self.chosen(chain.reports),
            chain.superseded,
        )
        if stopped is None:
            return result
        problem = stopped_problem(stopped, invocation.job_id)
        return result.model_copy(update={"status": stopped, "error": problem})

    def health(self) -> Health:
        """Healthy as long as answers of stages can be heard."""
        if self._life is not None and self._life.done():
            return Health(healthy=False, detail="the connection to the services has failed")
        return Health(healthy=True)

    async def close(self) -> None:
        """Disconnect; what runs at the services goes on."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)

    async def _run(self, chain: Chain, calls: StageCalls, invocation: Invocation) -> Status | None:
        """Run a chain to its end; says so when it was stopped before. Raises JobStopped.

        A chain that another orchestrator goes on with leaves its jobs alone.
        """
        work = asyncio.create_task(chain.run(calls), name=invocation.job_id)
        try:
            stopped = await self._stopped_or_done(work, invocation)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        if stopped is None:
            work.result()
        elif invocation.handed_back:
            raise JobStopped(stopped)
        else:
            # Not before the work has ended: it might begin one more job meanwhile.
            chain.stopped(stopped)
            await calls.cancel()
        return stopped

    async def _stopped_or_done(
        self, work: asyncio.Task[None], invocation: Invocation
    ) -> Status | None:
        """Wait for the end of the work; say so when it is to stop before.

        Raises InternalError when no answer could be heard any more: another orchestrator goes on.
        """
        assert self._life is not None
        while not work.done():
            if (stopped := invocation.stop_requested()) is not None:
                return stopped
            if self._life.done():
                raise InternalError(self.health().detail)
            await asyncio.wait(
                {work, self._life},
                timeout=STOP_POLL_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
        return None

    async def _live(self, connected: asyncio.Event) -> None:
        """Keep the clients of all services running."""
        async with (
            self._clients.running(),
            running(answers=self._answers.run(), sweep=self._sweep()),
        ):
            connected.set()
            await asyncio.Event().wait()

    async def _sweep(self) -> None:
        """Forget what stages answered once their chains are long over."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self._answers.sweep(self._answer_seconds)
