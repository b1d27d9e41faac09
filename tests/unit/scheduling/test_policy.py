"""The most urgent job runs next; among equals the one that came first."""

from hypothesis import given
from hypothesis import strategies as st

from node.scheduling.policy import next_job
from tests.unit.builders import job

WAITING = st.lists(st.tuples(st.integers(0, 9), st.floats(0, 100)), min_size=1)


def test_nothing_waits_nothing_runs() -> None:
    assert next_job([]) is None


def test_the_job_that_came_first_goes_first() -> None:
    assert next_job([job("late", received_at=2.0), job("early", received_at=1.0)]).id == "early"


def test_an_urgent_job_overtakes_one_that_came_before_it() -> None:
    waiting = [job("early", received_at=1.0), job("urgent", received_at=2.0, priority=5)]
    assert next_job(waiting).id == "urgent"


def test_equals_keep_their_order() -> None:
    assert next_job([job("first"), job("second")]).id == "first"


@given(WAITING)
def test_no_waiting_job_is_more_urgent_or_equally_urgent_and_older(
    waiting: list[tuple[int, float]],
) -> None:
    jobs = [
        job(str(n), priority=priority, received_at=received_at)
        for n, (priority, received_at) in enumerate(waiting)
    ]
    chosen = next_job(iter(jobs))
    for other in jobs:
        assert (chosen.priority, -chosen.received_at) >= (other.priority, -other.received_at)
