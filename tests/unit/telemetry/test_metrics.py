"""Figures of one node: counted once, read by Prometheus and by discovery."""

from typing import Any

import pytest

from contracts.result import AnyResult, Status, Timings
from contracts.text2image import Text2ImageResult
from node.job import Outcome
from node.telemetry.metrics import LATEST_IMAGES, Metrics
from tests.unit.builders import envelope, failed, image, succeeded


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"text2image_node_{name}", labels)


def made(total: float, queue: float = 0.0, images: int = 1) -> Outcome:
    return succeeded(
        images=[image(index=n) for n in range(images)],
        timings=Timings(total_seconds=total, queue_seconds=queue),
    )


def test_deliveries_are_counted_apart_from_redeliveries(metrics: Metrics) -> None:
    for redelivered in (False, False, True):
        metrics.received(redelivered)
    assert value(metrics, "deliveries_total", redelivered="false") == 2
    assert value(metrics, "deliveries_total", redelivered="true") == 1


def test_outcomes_are_counted_by_status_and_code(metrics: Metrics) -> None:
    metrics.settled(made(1.0))
    metrics.settled(failed())
    metrics.settled(Outcome.stopped(Text2ImageResult, envelope(), Status.CANCELLED))
    assert value(metrics, "requests_total", status="succeeded", code="") == 1
    assert value(metrics, "requests_total", status="failed", code="invalid_request") == 1
    assert value(metrics, "requests_total", status="cancelled", code="cancelled") == 1


def test_only_failures_are_errors(metrics: Metrics) -> None:
    metrics.settled(Outcome.stopped(Text2ImageResult, envelope(), Status.CANCELLED))
    assert (metrics.num_requests, metrics.num_errors, metrics.last_error) == (1, 0, None)
    metrics.settled(failed())
    assert (metrics.num_requests, metrics.num_errors) == (2, 1)
    assert metrics.last_error == "what went wrong"


def test_work_is_what_is_left_without_the_wait(metrics: Metrics) -> None:
    metrics.settled(made(total=5.0, queue=3.0, images=4))
    assert metrics.processing_seconds == 2.0
    assert metrics.p50_seconds_per_image() == 0.5
    assert value(metrics, "images_total") == 4
    assert value(metrics, "total_seconds_sum") == 5.0
    assert value(metrics, "queue_seconds_sum") == 3.0


def test_nothing_is_known_before_the_first_image(metrics: Metrics) -> None:
    assert metrics.p50_seconds_per_image() is None
    metrics.settled(made(1.0, images=0))
    assert metrics.p50_seconds_per_image() is None


@pytest.mark.parametrize("images", [None, 5, "a.png", {"0": 1}])
def test_what_a_service_calls_images_and_is_something_else_is_none(
    metrics: Metrics, images: Any
) -> None:
    result = AnyResult.model_validate({"job_id": "j", "status": "succeeded", "images": images})
    metrics.settled(Outcome(result))
    assert value(metrics, "requests_total", status="succeeded", code="") == 1
    assert value(metrics, "images_total") == 0


def test_the_median_is_of_the_latest_images(metrics: Metrics) -> None:
    for _ in range(LATEST_IMAGES):
        metrics.settled(made(100.0))
    for _ in range(LATEST_IMAGES):
        metrics.settled(made(1.0))
    assert metrics.p50_seconds_per_image() == 1.0


def test_a_job_counts_as_running_inside_the_context_only(metrics: Metrics) -> None:
    with metrics.running(), metrics.running():
        assert value(metrics, "jobs_running") == 2
    assert value(metrics, "jobs_running") == 0


def test_a_job_that_raises_does_not_run_for_ever(metrics: Metrics) -> None:
    with pytest.raises(ValueError, match="crash"), metrics.running():
        raise ValueError("crash")
    assert value(metrics, "jobs_running") == 0


def test_a_scrape_shows_the_worst_lag_since_the_last_one(metrics: Metrics) -> None:
    for seconds in (0.1, 0.4, 0.2):
        metrics.observe_loop_lag(seconds)
    assert b"text2image_node_event_loop_lag_seconds 0.4" in metrics.exposition()
    assert b"text2image_node_event_loop_lag_seconds 0.0" in metrics.exposition()


def test_two_nodes_in_one_process_count_apart(metrics: Metrics) -> None:
    Metrics().settled(failed())
    assert metrics.num_requests == 0
    assert b'code="invalid_request"' not in metrics.exposition()
