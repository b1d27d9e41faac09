"""Latencies of each service, with OPEA's names for them and in memory that does not grow. Pure."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

WINDOW: Final = 4096
"""How many of the latest latencies of a service are kept."""
OPEA_NAME: Final = "opea_service@{}"
"""What OPEA's microservices call themselves in their statistics."""


class ServiceFigures(BaseModel):
    """What was measured of one service, in seconds; null before its first success.

    Percentiles and average are those of the latest 4096 answers. OPEA has the first six names.
    """

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    p50_latency: float | None = Field(default=None, examples=[1.1])
    """Median from the request to its answer."""
    p99_latency: float | None = Field(default=None, examples=[4.2])
    """What 99 of 100 answers do not exceed."""
    average_latency: float | None = Field(default=None, examples=[1.3])
    """Average from the request to its answer."""
    p50_latency_first_token: float | None = None
    """Always null: pictures have no tokens."""
    p99_latency_first_token: float | None = None
    """Always null."""
    average_latency_first_token: float | None = None
    """Always null."""
    requests: int = Field(default=0, examples=[12])
    """How many were ended since the start, well or not."""
    failures: int = Field(default=0, examples=[1])
    """How many of them did not succeed: refused, failed, cancelled or too late."""


class _Latencies:
    """What is kept of one service."""

    def __init__(self) -> None:
        self.seconds: deque[float] = deque(maxlen=WINDOW)
        self.requests = 0
        self.failures = 0

    def figures(self) -> ServiceFigures:
        if not self.seconds:
            return ServiceFigures(requests=self.requests, failures=self.failures)
        ordered = sorted(self.seconds)
        return ServiceFigures(
            p50_latency=percentile(ordered, 50),
            p99_latency=percentile(ordered, 99),
            average_latency=sum(ordered) / len(ordered),
            requests=self.requests,
            failures=self.failures,
        )


class ServiceStatistics:
    """Measures the calls of each service; those that are named are told of from the start."""

    def __init__(self, services: Iterable[str], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._services = {service: _Latencies() for service in services}

    @contextmanager
    def measured(self, service: str) -> Iterator[None]:
        """Count what runs inside the context; an error that leaves it is a failure.

        A call that is torn down from outside, as when the gateway stops, is not counted.
        """
        kept = self._services.setdefault(service, _Latencies())
        started_at = self._clock()
        try:
            yield
        except Exception:
            kept.requests += 1
            kept.failures += 1
            raise
        kept.requests += 1
        kept.seconds.append(self._clock() - started_at)

    def figures(self) -> dict[str, ServiceFigures]:
        """Sum up every service, by the name that OPEA would give it."""
        return {
            OPEA_NAME.format(service): kept.figures() for service, kept in self._services.items()
        }


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Read a percentile off ordered values; between two of them, in proportion (as NumPy does)."""
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
