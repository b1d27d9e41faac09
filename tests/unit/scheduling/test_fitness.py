"""A node is unfit when its jobs keep failing by its own fault."""

import pytest

from contracts.failure import FailureCode
from node.scheduling.fitness import Fitness
from tests.unit.builders import failed, succeeded

OWN = FailureCode.INTERNAL


def test_different_jobs_that_fail_in_a_row_make_a_node_unfit() -> None:
    fitness = Fitness(max_failed_jobs=3)
    for job_id, code in (("a", OWN), ("b", FailureCode.OUT_OF_MEMORY)):
        fitness.job_ended(job_id, failed(job_id, code=code))
    assert fitness.reason == ""
    fitness.job_ended("c", failed("c", code=OWN))
    assert fitness.reason == "3 jobs in a row failed; the last: what went wrong"


def test_one_job_that_fails_again_and_again_proves_nothing() -> None:
    fitness = Fitness(max_failed_jobs=2)
    for _ in range(5):
        fitness.job_ended("a", failed("a", code=OWN))
    assert fitness.reason == ""


def test_a_success_in_between_starts_the_count_anew() -> None:
    fitness = Fitness(max_failed_jobs=2)
    fitness.job_ended("a", failed("a", code=OWN))
    fitness.job_ended("b", succeeded("b"))
    fitness.job_ended("c", failed("c", code=OWN))
    assert fitness.reason == ""


@pytest.mark.parametrize("code", [FailureCode.INVALID_REQUEST, FailureCode.GENERATION_FAILED])
def test_a_failure_by_the_request_does_not_count(code: FailureCode) -> None:
    fitness = Fitness(max_failed_jobs=1)
    fitness.job_ended("a", failed("a", code=code))
    assert fitness.reason == ""


def test_the_first_reason_stays() -> None:
    fitness = Fitness(max_failed_jobs=1)
    fitness.broke("the device is gone")
    fitness.broke("something that followed")
    assert fitness.reason == "the device is gone"
