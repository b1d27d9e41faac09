"""What a node says about itself, to discovery and to the health endpoint."""

from collections.abc import Callable
from typing import Final

import structlog

from contracts.discovery import LoadState, NodeState, ServiceMetadata
from node.component import Component
from node.discovery.identity import Figures
from node.documents import asyncapi_sha256
from node.execution import Execution
from node.ports import Broker, Clock
from node.telemetry.metrics import Metrics
from node.worker import Worker

LOAD_SHOWN_SECONDS: Final = 1.0
"""How often a download that goes on is told anew."""

log = structlog.get_logger(__name__)


class NodeStatus:
    """The state of a node; `node.app` alone changes it."""

    def __init__(
        self,
        component: Component,
        worker: Worker,
        execution: Execution,
        *,
        broker: Broker,
        clock: Clock,
        metrics: Metrics,
        slots: int,
        http_port: Callable[[], int | None],
    ) -> None:
        self._component = component
        self._worker = worker
        self._execution = execution
        self._broker = broker
        self._clock = clock
        self._metrics = metrics
        self._slots = slots
        self._http_port = http_port
        self._loading: LoadState | None = None
        self._load_shown_at = 0.0
        self.state = NodeState.STARTING

    def show_load(self, loading: LoadState | None) -> bool:
        """Take in how far loading is; False when that is not worth telling."""
        now, previous = self._clock.monotonic(), self._loading
        same_stage = loading and previous and loading.stage == previous.stage
        if same_stage and now < self._load_shown_at + LOAD_SHOWN_SECONDS:
            return False
        self._loading, self._load_shown_at = loading, now
        if loading is not None:
            log.info(f"model.{loading.stage}", **loading.model_dump(exclude={"stage"}))
        return True

    def reasons_not_ready(self) -> list[str]:
        """List what keeps the node from doing a request now; empty when nothing does."""
        health = self._component.health()
        reasons = []
        if self.state is not NodeState.READY:
            why = f": {self._execution.unfit}" if self._execution.unfit else ""
            reasons.append(f"the node is {self.state.value}{why}")
        if not health.healthy:
            reasons.append(health.detail)
        if not self._broker.connected():
            reasons.append(f"the broker is not connected: {self._broker.problem()}")
        return reasons

    def metadata(self) -> ServiceMetadata:
        """Describe the node as of now."""
        device = self._component.device()
        return ServiceMetadata(
            service_type=self._component.service_type,
            state=self.state,
            state_reason=self._execution.unfit or self._component.health().detail or None,
            models=self._component.models(),
            device=device.device if device else None,
            device_reason=device.reason if device else None,
            dtype=device.dtype if device else None,
            loading=self._loading,
            memory_total_bytes=device.memory_total_bytes if device else None,
            memory_free_bytes=device.memory_free_bytes if device else None,
            slots_total=self._slots,
            slots_busy=self._worker.busy(),
            local_queue_depth=self._worker.waiting(),
            p50_seconds_per_image=self._metrics.p50_seconds_per_image(),
            http_port=self._http_port(),
            asyncapi_sha256=asyncapi_sha256(self._component.contract()),
        )

    def figures(self) -> Figures:
        """Count what the node has done since its start."""
        done = self._metrics
        return Figures(done.num_requests, done.num_errors, done.last_error, done.processing_seconds)
