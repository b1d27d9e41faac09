"""The latest results are kept within bounds, and the oldest go first."""

import pytest

from node.stores.recent import RecentResults
from tests.fakes import ManualClock
from tests.unit.stores.builders import kept

SIZE = len(kept("a").outcome.result.to_json())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def recent(clock: ManualClock, *, results: int = 2, size: int = 10 * SIZE) -> RecentResults:
    return RecentResults(results, size, window_seconds=60.0, clock=clock)


def kept_ids(results: RecentResults) -> list[str]:
    return [name for name in "abc" if results.get(name) is not None]


def test_the_oldest_results_are_forgotten_by_number(clock: ManualClock) -> None:
    results = recent(clock)
    for name in "abc":
        results.add(kept(name))
    assert kept_ids(results) == ["b", "c"]


def test_the_oldest_results_are_forgotten_by_size(clock: ManualClock) -> None:
    results = recent(clock, results=10, size=2 * SIZE)
    for name in "abc":
        results.add(kept(name))
    assert kept_ids(results) == ["b", "c"]


def test_the_latest_result_is_kept_whatever_its_size(clock: ManualClock) -> None:
    results = recent(clock, size=0)
    for name in "abc":
        results.add(kept(name))
    assert kept_ids(results) == ["c"]


def test_a_later_replay_takes_no_more_room_than_one_result(clock: ManualClock) -> None:
    results = recent(clock, results=10, size=2 * SIZE + 10)
    for name, replay in (("a", 0), ("b", 0), ("a", 1), ("a", 2)):
        results.add(kept(name, replay=replay))
    assert kept_ids(results) == ["a", "b"]


def test_results_are_forgotten_when_the_window_is_over(clock: ManualClock) -> None:
    results = recent(clock)
    results.add(kept("a"))
    clock.now += 40
    results.add(kept("b"))
    clock.now += 20
    assert kept_ids(results) == ["a", "b"]
    clock.now += 1
    assert kept_ids(results) == ["b"]


async def test_a_sweep_counts_what_it_forgets(clock: ManualClock) -> None:
    results = recent(clock)
    results.add(kept("a"))
    clock.now += 10
    results.add(kept("b"))
    assert await results.sweep(5.0) == 1
    assert kept_ids(results) == ["b"]


async def test_a_node_that_is_alone_always_has_the_claim(clock: ManualClock) -> None:
    results = recent(clock)
    assert await results.claim("a")
    assert await results.claim("a")
    await results.release("a")
