"""Whichever process dies at whichever await, a chain has one end, and nothing is done again.

    CHAIN_LIFE_EXAMPLES=2000 pytest tests/properties/test_chain_life.py

A failure prints the awaits at which processes died: `live(request, *kills)` does it again.
"""

import itertools
import os
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.megaservice import MegaServiceResult
from contracts.result import Status
from tests.faults.harness.chain_services import chained, is_right, jobs_of, stage_of
from tests.properties.chain_world import ChainWorld, live

EXAMPLES: Final = int(os.environ.get("CHAIN_LIFE_EXAMPLES", "100"))
AWAITS: Final = 400
"""About as many as all processes have while a chain is done."""
SLOW_SECONDS: Final = 0.3
"""A broker so slow lets much happen while a cancel is on its way."""
UNDISTURBED_SECONDS: Final = 8.0
RETRIED_SECONDS: Final = 8.0
"""The first retry queue, and a little more."""
REQUEST: Final = chained(failures=1)


@pytest.mark.parametrize("sharing", [True, False], ids=["sharing", "forgetful"])
def test_a_process_that_dies_at_any_await_costs_no_chain_and_no_confirmed_work(
    sharing: bool,
) -> None:
    deaths = 0
    while (world := live(REQUEST, deaths, sharing=sharing)).deaths:
        check(world)
        deaths += 1
    assert deaths > 100


def test_cancelled_at_any_time_a_chain_leaves_no_work_behind() -> None:
    for tenths in itertools.count(1):
        cancel_at = tenths / 10
        world = live(REQUEST, cancel_at=cancel_at, publish_seconds=SLOW_SECONDS)
        assert world.result is not None
        if world.result.status is Status.SUCCEEDED:
            break
        assert world.result.status is Status.CANCELLED
        late = [job for job, at in world.ended if at > world.result_at]
        assert late == [], cancel_at
    assert cancel_at > 10.0


@pytest.mark.parametrize("deaf_at", [0.5, 2.5, 4.5])
def test_an_orchestrator_that_hears_no_answers_hands_its_chain_over_at_once(
    deaf_at: float,
) -> None:
    world = live(REQUEST, deaf_at=deaf_at)
    check(world)
    assert world.result_at < UNDISTURBED_SECONDS + RETRIED_SECONDS


def test_a_stage_that_fails_for_all_stops_the_other_branch() -> None:
    world = live(chained(failures=2, right=30.0))
    assert world.result is not None
    assert world.result.status is Status.FAILED
    assert {stage_of(job) for job, _ in world.ended} == {"plan"}


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.integers(0, AWAITS), min_size=2, max_size=4))
def test_processes_that_die_one_after_the_other_cost_no_chain_and_no_confirmed_work(
    kills: list[int],
) -> None:
    check(live(REQUEST, *kills))


def check(world: ChainWorld) -> None:
    """Fail unless the chain ended well, and once; what was kept was not done again."""
    happened = (world.deaths, dict(world.begun), world.unhandled)
    assert isinstance(world.result, MegaServiceResult), happened
    assert is_right(world.request, world.result), (world.result, happened)
    assert world.repeated == [], happened
    # A job begins once for each process that died with it; no job is begun that is not needed.
    stages = [stage_of(job_id) for job_id in world.begun]
    assert {name: stages.count(name) for name in stages} == jobs_of(world.request), happened
    if world.sharing:
        assert world.begun.total() - len(world.begun) <= 3 * len(world.deaths), happened
    assert world.unhandled == [], happened
