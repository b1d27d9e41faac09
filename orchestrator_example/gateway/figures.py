"""Figures of jobs, for Prometheus."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from orchestrator_example.gateway.desk import JobDesk


def add_job_figures(registry: CollectorRegistry, desk: JobDesk) -> None:
    """Tell of the jobs of a desk whenever somebody asks."""
    registry.register(_Jobs(desk))


class _Jobs(Collector):
    def __init__(self, desk: JobDesk) -> None:
        self._desk = desk

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Count the jobs that are known, by service and state."""
        jobs = GaugeMetricFamily(
            "text2image_gateway_jobs", "Jobs that are known", labels=["service", "state"]
        )
        counted = Counter((job.service, job.state.value) for job in self._desk.all_jobs())
        for labels, number in counted.items():
            jobs.add_metric(labels, number)
        yield jobs
