"""What is measured of each service."""

import asyncio
import random

import numpy as np
import pytest

from orchestrator_example.gateway.statistics import (
    WINDOW,
    ServiceFigures,
    ServiceStatistics,
    percentile,
)

NAME = "opea_service@text2image"


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def statistics(clock: Clock) -> ServiceStatistics:
    return ServiceStatistics(["text2image"], clock)


def take(statistics: ServiceStatistics, clock: Clock, seconds: float) -> None:
    with statistics.measured("text2image"):
        clock.now += seconds


def test_a_service_is_told_of_before_its_first_call(statistics: ServiceStatistics) -> None:
    assert statistics.figures() == {NAME: ServiceFigures()}


def test_the_names_are_those_of_opea_and_two_of_ours() -> None:
    assert list(ServiceFigures.model_fields) == [
        "p50_latency",
        "p99_latency",
        "average_latency",
        "p50_latency_first_token",
        "p99_latency_first_token",
        "average_latency_first_token",
        "requests",
        "failures",
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 100, 1001])
def test_percentiles_are_those_of_opea(count: int) -> None:
    values = sorted(random.Random(count).uniform(0, 10) for _ in range(count))
    for percent in (50, 99):
        assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)))


def test_latencies_are_seconds_from_request_to_answer(
    statistics: ServiceStatistics, clock: Clock
) -> None:
    for seconds in (1.0, 2.0, 6.0):
        take(statistics, clock, seconds)
    figures = statistics.figures()[NAME]
    assert (figures.p50_latency, figures.average_latency) == (2.0, 3.0)
    assert (figures.requests, figures.failures) == (3, 0)


def test_a_failure_is_counted_and_is_no_latency(
    statistics: ServiceStatistics, clock: Clock
) -> None:
    take(statistics, clock, 1.0)
    with pytest.raises(ValueError, match="broken"), statistics.measured("text2image"):
        raise ValueError("broken")
    figures = statistics.figures()[NAME]
    assert (figures.requests, figures.failures, figures.p99_latency) == (2, 1, 1.0)


def test_a_call_that_is_torn_down_is_not_counted(statistics: ServiceStatistics) -> None:
    with pytest.raises(asyncio.CancelledError), statistics.measured("text2image"):
        raise asyncio.CancelledError
    assert statistics.figures()[NAME].requests == 0


def test_the_latest_are_kept_and_all_are_counted(
    statistics: ServiceStatistics, clock: Clock
) -> None:
    take(statistics, clock, 1000.0)
    for _ in range(WINDOW):
        take(statistics, clock, 1.0)
    figures = statistics.figures()[NAME]
    assert figures.average_latency == pytest.approx(1.0)
    assert figures.requests == WINDOW + 1


def test_services_are_told_apart(statistics: ServiceStatistics) -> None:
    with statistics.measured("painter"):
        pass
    assert [each.requests for each in statistics.figures().values()] == [0, 1]
