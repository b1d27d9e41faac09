"""The composition root: builds every object of a node, starts and stops them in order.

A process has a node for each of its components: `node.commands.serve` runs them together.

Start: health endpoint -> broker -> topology -> discovery (`starting`) -> component (download, load,
warm-up) -> consume (`ready`). A node is visible and its health answers while it loads.

A node that became unfit (jobs fail in a row, or hang) says `unhealthy`, hands everything back and
raises NodeUnfit: the process starts anew.

Stop (SIGTERM or SIGINT): goodbye (`draining`) -> stop consuming -> give back what waits -> finish
what runs within the grace, or hand it back -> flush events -> close. A second signal ends
the grace.
"""

import asyncio
import random
from collections.abc import Awaitable
from uuid import uuid4

import structlog
from pydantic import ValidationError

from contracts.control import CancelRequest
from contracts.discovery import LoadState, NodeState
from contracts.service import ServiceContract
from contracts.topology import CONTROL, request_queues, service_topology, unanswered_queue
from node.component import Component, ComponentLoader
from node.discovery.announcer import Announcer, questions_for
from node.discovery.identity import Identity
from node.errors import BrokerUnavailable, NodeUnfit, StoreError
from node.execution import Execution
from node.parts import SystemClock, make_broker, make_results
from node.ports import Broker, Subscribed, Subscription
from node.settings import Settings
from node.status import NodeStatus
from node.stores.artifacts import FsspecArtifactStore
from node.tasks import running
from node.telemetry.health import HealthServer
from node.telemetry.metrics import Metrics
from node.worker import Worker

__all__ = ["SWEEP_SECONDS", "Node", "SystemClock", "make_broker"]

FLUSH_SECONDS = 2.0
UNAVAILABLE_SECONDS = 1.0
SWEEP_SECONDS = 600.0

log = structlog.get_logger(__name__)


class Node:
    """Serves one component.

    `restart_delay_seconds` is how long an unfit node shows itself as `unhealthy` before it ends.
    """

    def __init__(
        self,
        settings: Settings,
        component: Component,
        broker: Broker,
        restart_delay_seconds: float = 0.0,
    ) -> None:
        self._settings = settings = settings.completed(
            slots=component.slots, max_request_bytes=component.max_request_bytes
        )
        self._restart_delay_seconds = restart_delay_seconds
        self._component = component
        self.broker = broker
        self._clock = SystemClock()
        self._metrics = Metrics()
        self._stop_requests = 0
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._models = [model.id for model in component.models()]
        self.instance_id = settings.instance_id or uuid4().hex[:12]
        self._health = HealthServer(self._metrics, self.reasons_not_ready)
        model = component.result_model
        self._results = make_results(settings, self.instance_id, model, self._clock)
        url = settings.artifact_store
        self._artifacts = FsspecArtifactStore(url) if url else None
        self._execution = self._make_execution()
        self._control: Subscription = broker.subscription([Subscribed(CONTROL)])
        prefetch_count = settings.slots + settings.look_ahead
        self._inbox = broker.inbox(self._queues(), prefetch_count, self._prepare_consuming)
        self.worker = self._make_worker()
        self._status = self._make_status()
        self._announcer = self._make_announcer()

    async def run(self, loader: ComponentLoader) -> None:
        """Serve until `stop`. Raises SetupError, TopologyMismatch, NodeUnfit."""
        settings = self._settings
        async with (
            self._health.serving(settings.http_host, settings.http_port),
            running(loop_lag=self._health.watch_loop()),
            self.broker.running(),
        ):
            if not await self._unless_stopped(self._prepare_start()):
                return
            async with running(announcer=self._announcer.run(), control=self._obey()):
                loading = loader.load(self._component, self._on_load)
                if await self._unless_stopped(loading):
                    if await self._unless_stopped(self._control.queue_name()):
                        await self._serve()
                    await self._component.close()
                    await self._end_unfit()

    def stop(self) -> None:
        """Drain and end; called again: without waiting for running jobs."""
        self._stop_requests += 1
        self._stopping.set()
        if self._stop_requests > 1:
            self.worker.hand_back()

    async def _serve(self) -> None:
        async with running(
            inbox=self._inbox.run(), results=self._results.run(), sweep=self._sweep()
        ):
            worker = asyncio.create_task(self.worker.run(), name="worker")
            self._status.show_load(None)
            self._set_state(NodeState.READY)
            log.info("node.ready", instance_id=self.instance_id, queues=self._queues())
            stopped = asyncio.create_task(self._stopping.wait())
            unfit = asyncio.create_task(self.worker.unfit.wait())
            try:
                await asyncio.wait({worker, stopped, unfit}, return_when=asyncio.FIRST_COMPLETED)
                if not worker.done():
                    await self._drain()
                await worker
                await self.broker.outbox.flush(FLUSH_SECONDS)
            finally:
                for task in (worker, stopped, unfit):
                    task.cancel()
                await asyncio.gather(worker, stopped, unfit, return_exceptions=True)
        log.info("node.stopped", instance_id=self.instance_id)

    async def _drain(self) -> None:
        grace_seconds = self._settings.grace_seconds
        if self.worker.unfit.is_set():
            grace_seconds = 0.0
            self._set_state(NodeState.UNHEALTHY)
            log.error("node.unfit", reason=self._execution.unfit)
        else:
            self._status.state = NodeState.DRAINING
            self._announcer.goodbye("draining")
        await self.worker.drain(grace_seconds)
        if self._stop_requests > 1:
            self.worker.hand_back()

    async def _end_unfit(self) -> None:
        """Show an unfit node as such for a while. Raises NodeUnfit, unless it was stopped."""
        if not self.worker.unfit.is_set():
            return
        if await self._unless_stopped(asyncio.sleep(self._restart_delay_seconds)):
            self._announcer.goodbye("unhealthy")
            await self.broker.outbox.flush(FLUSH_SECONDS)
            raise NodeUnfit(self._execution.unfit)

    async def _sweep(self) -> None:
        """Delete what is too old from the stores, now and then."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS * random.uniform(0.5, 1.5))
            try:
                await self._results.sweep(self._settings.result_seconds)
                if self._artifacts is not None:
                    await self._artifacts.sweep(self._settings.artifact_seconds)
            except StoreError as error:
                log.warning("store.not_swept", reason=str(error))

    async def _unless_stopped(self, work: Awaitable[object]) -> bool:
        """Await `work`; False when the node was told to stop first."""
        working = asyncio.ensure_future(work)
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
                return True
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            return False
        finally:
            stopped.cancel()

    async def _prepare_topology(self) -> None:
        topology = service_topology(self._component.name, self._models)
        if self._settings.configure_topology:
            await self.broker.apply(topology)
        else:
            await self.broker.check(topology)

    async def _prepare_start(self) -> None:
        """Prepare the topology, however long the broker takes to be of use."""
        while True:
            try:
                await self._prepare_topology()
            except BrokerUnavailable as error:
                log.warning("topology.tried_again", reason=str(error))
                await asyncio.sleep(UNAVAILABLE_SECONDS)
            else:
                return

    async def _prepare_consuming(self) -> None:
        """Let no job arrive before its cancel can be heard."""
        await self._prepare_topology()
        await self._control.queue_name()

    async def _obey(self) -> None:
        """Carry out commands that are broadcast to every node."""
        async with running(control=self._control.run()):
            async for message in self._control:
                try:
                    command = CancelRequest.model_validate_json(message.body)
                except ValidationError as error:
                    log.warning("control.not_understood", reason=str(error).splitlines()[0])
                    continue
                self.worker.cancel(command.job_id)

    def _make_execution(self) -> Execution:
        return Execution(
            self._component,
            settings=self._settings,
            instance_id=self.instance_id,
            clock=self._clock,
            metrics=self._metrics,
            store=self._artifacts,
        )

    def _make_worker(self) -> Worker:
        return Worker(
            self._component,
            self._inbox,
            self.broker.outbox,
            self._results,
            self._execution,
            settings=self._settings,
            clock=self._clock,
            metrics=self._metrics,
        )

    def _make_status(self) -> NodeStatus:
        return NodeStatus(
            self._component,
            self.worker,
            self._execution,
            broker=self.broker,
            clock=self._clock,
            metrics=self._metrics,
            slots=self._settings.slots,
            http_port=lambda: self._health.port,
        )

    def _make_announcer(self) -> Announcer:
        service = self._component.name
        identity = Identity(
            service=service,
            description=self._component.description,
            instance_id=self.instance_id,
            incarnation=int(self._clock.time() * 1000),
            metadata=self._status.metadata,
            figures=self._status.figures,
        )
        questions = self.broker.subscription(questions_for(service, self.instance_id))
        return Announcer(identity, self.broker.outbox, questions)

    def _queues(self) -> tuple[str, ...]:
        service = self._component.name
        return (*request_queues(service, self._models), unanswered_queue(service))

    @property
    def contract(self) -> ServiceContract:
        """What travels to and from the service."""
        return self._component.contract()

    def reasons_not_ready(self) -> list[str]:
        """List what keeps the node from doing a request now."""
        return self._status.reasons_not_ready()

    def _set_state(self, state: NodeState) -> None:
        self._status.state = state
        self._announcer.changed()

    def _on_load(self, loading: LoadState) -> None:
        """Take in how far loading is; called from any thread."""
        self._loop.call_soon_threadsafe(self._show_load, loading)

    def _show_load(self, loading: LoadState) -> None:
        if self._status.show_load(loading):
            self._announcer.changed()
