"""Counters and timings, for Prometheus and for the answers to `stats`."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from contracts.result import Status
from node.job import Outcome

SECONDS_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
LATEST_IMAGES: Final = 101


class Metrics:
    """The figures of one node, in a Prometheus registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prefix = "text2image_node_"
        self._deliveries = Counter(
            f"{prefix}deliveries", "Requests taken", ["redelivered"], registry=self.registry
        )
        self._settled = Counter(
            f"{prefix}requests", "Requests settled", ["status", "code"], registry=self.registry
        )
        self._queue_seconds = Histogram(
            f"{prefix}queue_seconds",
            "From delivery until work began",
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._total_seconds = Histogram(
            f"{prefix}total_seconds",
            "From delivery until the result was ready",
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._images = Counter(f"{prefix}images", "Images made", registry=self.registry)
        self._running = Gauge(f"{prefix}jobs_running", "Jobs that run", registry=self.registry)
        self._loop_lag = Gauge(
            f"{prefix}event_loop_lag_seconds",
            "Largest delay of the event loop since the last scrape",
            registry=self.registry,
        )
        self._latest_seconds_per_image: deque[float] = deque(maxlen=LATEST_IMAGES)
        self._worst_lag = 0.0
        self.num_requests = 0
        self.num_errors = 0
        self.last_error: str | None = None
        self.processing_seconds = 0.0

    def received(self, redelivered: bool) -> None:
        """Count a delivery."""
        self._deliveries.labels(redelivered=str(redelivered).lower()).inc()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count a job as running inside the context."""
        with self._running.track_inprogress():
            yield

    def settled(self, outcome: Outcome) -> None:
        """Count an outcome and its timings."""
        error, timings = outcome.error, outcome.result.timings
        code = error.code.value if error else ""
        self._settled.labels(status=outcome.status.value, code=code).inc()
        self.num_requests += 1
        if outcome.status is Status.FAILED and error is not None:
            self.num_errors += 1
            self.last_error = error.detail
        if outcome.status is Status.SUCCEEDED:
            self._count_work(outcome)
            self._queue_seconds.observe(timings.queue_seconds)
            self._total_seconds.observe(timings.total_seconds)

    def _count_work(self, outcome: Outcome) -> None:
        timings = outcome.result.timings
        work_seconds = timings.total_seconds - timings.queue_seconds
        self.processing_seconds += work_seconds
        made = getattr(outcome.result, "images", None)
        # A service may call something else by that name.
        images = len(made) if isinstance(made, list) else 0
        if images:
            self._images.inc(images)
            self._latest_seconds_per_image.append(work_seconds / images)

    def p50_seconds_per_image(self) -> float | None:
        """Median over the latest images; None before the first."""
        return median(self._latest_seconds_per_image) if self._latest_seconds_per_image else None

    def observe_loop_lag(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._worst_lag = max(self._worst_lag, seconds)

    def exposition(self) -> bytes:
        """Write everything in Prometheus' text format."""
        self._loop_lag.set(self._worst_lag)
        self._worst_lag = 0.0
        return generate_latest(self.registry)
