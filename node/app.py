"""The composition root: builds every object of a node, starts and stops them in order.

Start: health endpoint -> broker -> topology -> discovery (`starting`) -> component (download, load,
warm-up) -> consume (`ready`). A node is visible and its health answers while it loads.

Stop (SIGTERM or SIGINT): goodbye (`draining`) -> stop consuming -> give back what waits -> finish
what runs within the grace, or hand it back -> flush events -> close. A second signal ends
the grace.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import structlog
from pydantic import ValidationError

from contracts.control import CancelRequest
from contracts.discovery import LoadState, NodeState, ServiceMetadata
from contracts.topology import CONTROL, request_queues, service_topology, unanswered_queue
from node.amqp.broker import AmqpBroker
from node.component import Component, ComponentLoader
from node.discovery.announcer import Announcer, questions_for
from node.discovery.identity import Figures, Identity
from node.documents import asyncapi_sha256
from node.egress.artifacts import FsspecArtifactStore
from node.ports import Broker, Subscribed, Subscription
from node.settings import Settings
from node.tasks import running
from node.telemetry.health import HealthServer
from node.telemetry.metrics import Metrics
from node.worker import Worker

FLUSH_SECONDS = 2.0
LOAD_SHOWN_SECONDS = 1.0

log = structlog.get_logger(__name__)


class SystemClock:
    """The machine's clocks."""

    def time(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


def make_broker(settings: Settings) -> AmqpBroker:
    """Build the broker that the settings name."""
    return AmqpBroker(
        settings.amqp_url,
        heartbeat_seconds=settings.heartbeat_seconds,
        publish_timeout_seconds=settings.publish_timeout_seconds,
    )


class Node:
    """One process that serves one component.

    State shared between tasks: `_state` and `_loading` are written here only, and read by
    discovery and the health endpoint.
    """

    def __init__(self, settings: Settings, component: Component, broker: Broker) -> None:
        self._settings = settings
        self._component = component
        self.broker = broker
        self._clock = SystemClock()
        self._metrics = Metrics()
        self._state = NodeState.STARTING
        self._loading: LoadState | None = None
        self._stop_requests = 0
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._load_shown_at = 0.0
        self._models = [model.id for model in component.models()]
        self.instance_id = settings.instance_id or uuid4().hex[:12]
        self._health = HealthServer(self._metrics, self.reasons_not_ready)
        self.worker = self._make_worker()
        self._announcer = self._make_announcer()

    async def run(self, loader: ComponentLoader) -> None:
        """Serve until a signal or `stop`. Raises SetupError, TopologyMismatch."""
        settings = self._settings
        with self._signals():
            async with (
                self._health.serving(settings.http_host, settings.http_port),
                running(loop_lag=self._health.watch_loop()),
                self.broker.running(),
            ):
                if not await self._unless_stopped(self._prepare_topology()):
                    return
                async with running(announcer=self._announcer.run(), control=self._obey()):
                    if await self._unless_stopped(loader.load(self._component, self._on_load)):
                        await self._serve()
                        await self._component.close()

    def stop(self) -> None:
        """Drain and end; called again: without waiting for running jobs."""
        self._stop_requests += 1
        self._stopping.set()
        if self._stop_requests > 1:
            self.worker.hand_back()

    async def _serve(self) -> None:
        async with running(inbox=self._inbox.run()):
            worker = asyncio.create_task(self.worker.run(), name="worker")
            self._loading = None
            self._set_state(NodeState.READY)
            log.info("node.ready", instance_id=self.instance_id, queues=self._queues())
            stopped = asyncio.create_task(self._stopping.wait())
            try:
                await asyncio.wait({worker, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not worker.done():
                    await self._drain()
                await worker
                await self.broker.outbox.flush(FLUSH_SECONDS)
            finally:
                for task in (worker, stopped):
                    task.cancel()
                await asyncio.gather(worker, stopped, return_exceptions=True)
        log.info("node.stopped", instance_id=self.instance_id)

    async def _drain(self) -> None:
        self._state = NodeState.DRAINING
        self._announcer.goodbye("draining")
        await self.worker.drain(self._settings.grace_seconds)
        if self._stop_requests > 1:
            self.worker.hand_back()

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

    def _make_worker(self) -> Worker:
        settings = self._settings
        prefetch_count = settings.slots + settings.look_ahead
        self._inbox = self.broker.inbox(self._queues(), prefetch_count, self._prepare_topology)
        self._control: Subscription = self.broker.subscription([Subscribed(CONTROL)])
        store = FsspecArtifactStore(settings.artifact_store) if settings.artifact_store else None
        return Worker(
            self._component,
            self._inbox,
            self.broker.outbox,
            settings=settings,
            instance_id=self.instance_id,
            clock=self._clock,
            metrics=self._metrics,
            store=store,
        )

    def _make_announcer(self) -> Announcer:
        service = self._component.name
        identity = Identity(
            service=service,
            description=self._component.description,
            instance_id=self.instance_id,
            incarnation=int(self._clock.time() * 1000),
            metadata=self._metadata,
            figures=self._figures,
        )
        questions = self.broker.subscription(questions_for(service, self.instance_id))
        return Announcer(identity, self.broker.outbox, questions)

    def _queues(self) -> tuple[str, ...]:
        service = self._component.name
        return (*request_queues(service, self._models), unanswered_queue(service))

    def reasons_not_ready(self) -> list[str]:
        health = self._component.health()
        reasons = []
        if self._state is not NodeState.READY:
            reasons.append(f"the node is {self._state.value}")
        if not health.healthy:
            reasons.append(health.detail)
        if not self.broker.connected():
            reasons.append(f"the broker is not connected: {self.broker.problem()}")
        return reasons

    def _set_state(self, state: NodeState) -> None:
        self._state = state
        self._announcer.changed()

    def _on_load(self, loading: LoadState) -> None:
        """Take in how far loading is; called from any thread."""
        self._loop.call_soon_threadsafe(self._show_load, loading)

    def _show_load(self, loading: LoadState) -> None:
        now, previous = self._clock.monotonic(), self._loading
        if (
            previous
            and previous.stage == loading.stage
            and now < self._load_shown_at + LOAD_SHOWN_SECONDS
        ):
            return
        self._loading, self._load_shown_at = loading, now
        log.info(f"model.{loading.stage}", **loading.model_dump(exclude={"stage"}))
        self._announcer.changed()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        signals = (signal.SIGTERM, signal.SIGINT)
        for each in signals:
            self._loop.add_signal_handler(each, self.stop)
        try:
            yield
        finally:
            for each in signals:
                self._loop.remove_signal_handler(each)

    def _metadata(self) -> ServiceMetadata:
        device = self._component.device()
        return ServiceMetadata(
            service_type=self._component.service_type,
            state=self._state,
            models=self._component.models(),
            device=device.device if device else None,
            device_reason=device.reason if device else None,
            dtype=device.dtype if device else None,
            loading=self._loading,
            memory_total_bytes=device.memory_total_bytes if device else None,
            memory_free_bytes=device.memory_free_bytes if device else None,
            slots_total=self._settings.slots,
            slots_busy=self.worker.busy(),
            local_queue_depth=self.worker.waiting(),
            p50_seconds_per_image=self._metrics.p50_seconds_per_image(),
            http_port=self._health.port,
            asyncapi_sha256=asyncapi_sha256(),
        )

    def _figures(self) -> Figures:
        done = self._metrics
        return Figures(done.num_requests, done.num_errors, done.last_error, done.processing_seconds)
