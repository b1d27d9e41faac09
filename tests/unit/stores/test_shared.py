"""A node shares its results, and goes on alone while the shared store is away."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from node.errors import StoreUnavailable
from node.ports import KeptResult
from node.stores.recent import RecentResults
from node.stores.shared import PAUSE_SECONDS, SharedResults
from tests.fakes import ManualClock
from tests.unit.stores.builders import kept, kept_by


class LosableStore(RecentResults):
    """A shared store that does not answer while it is `away`; it counts how often it was asked."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(100, 10**9, window_seconds=3600.0, clock=clock)
        self.away = False
        self.claimable = True
        self.asked = 0

    def _answer(self) -> None:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("the store s3://gone: no answer within 5 s")

    async def find(self, job_id: str) -> KeptResult | None:
        self._answer()
        return await super().find(job_id)

    async def keep(self, kept: KeptResult) -> KeptResult:
        self._answer()
        return await super().keep(kept)

    async def claim(self, job_id: str) -> bool:
        self._answer()
        return self.claimable

    async def release(self, job_id: str) -> None:
        self._answer()
        self.claimable = True

    async def sweep(self, max_age_seconds: float) -> int:
        self._answer()
        return await super().sweep(max_age_seconds)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def shared(clock: ManualClock) -> LosableStore:
    return LosableStore(clock)


@pytest.fixture
def results(clock: ManualClock, shared: LosableStore) -> SharedResults:
    recent = RecentResults(2, 10**9, window_seconds=60.0, clock=clock)
    return SharedResults(recent, shared, monotonic=clock.monotonic)


async def everything_of(results: SharedResults) -> list[Any]:
    return [
        await results.find("job"),
        await results.claim("job"),
        await results.keep(kept()),
        await results.release("job"),
        await results.sweep(60.0),
    ]


async def test_what_is_in_memory_is_not_asked_for(
    results: SharedResults, shared: LosableStore
) -> None:
    await results.keep(kept())
    asked = shared.asked
    assert await results.find("job") == kept()
    assert shared.asked == asked


async def test_what_another_node_kept_is_found_and_remembered(
    results: SharedResults, shared: LosableStore
) -> None:
    await shared.keep(kept(by="another"))
    assert kept_by(await results.find("job")) == "another"
    asked = shared.asked
    assert kept_by(await results.find("job")) == "another"
    assert shared.asked == asked


async def test_what_memory_forgot_is_found_in_the_shared_store(
    results: SharedResults, clock: ManualClock
) -> None:
    await results.keep(kept())
    clock.now += 61
    assert await results.find("job") == kept()


async def test_the_result_that_stands_in_the_fleet_stands_here(
    results: SharedResults, shared: LosableStore
) -> None:
    await shared.keep(kept(by="another"))
    assert kept_by(await results.keep(kept(by="mine"))) == "another"
    assert kept_by(await results.find("job")) == "another"


async def test_claims_are_those_of_the_shared_store(
    results: SharedResults, shared: LosableStore
) -> None:
    assert await results.claim("job")
    shared.claimable = False
    assert not await results.claim("job")
    await results.release("job")
    assert await results.claim("job")


async def test_a_node_goes_on_alone_while_the_store_is_away(
    results: SharedResults, shared: LosableStore
) -> None:
    shared.away = True
    assert await everything_of(results) == [None, True, kept(), None, 0]
    assert await results.find("job") == kept()


async def test_an_outage_is_told_once_and_its_end_too(
    results: SharedResults, shared: LosableStore, clock: ManualClock
) -> None:
    with capture_logs() as logs:
        shared.away = True
        for _ in range(3):
            await everything_of(results)
            clock.now += 2 * PAUSE_SECONDS
        shared.away = False
        await everything_of(results)
        await everything_of(results)
    told = [line for line in logs if line["event"].startswith("results.")]
    assert [(line["log_level"], line["event"]) for line in told] == [
        ("warning", "results.unshared"),
        ("info", "results.shared_again"),
    ]
    assert "s3://gone" in told[0]["reason"]


async def test_jobs_do_not_wait_for_a_store_that_did_not_answer(
    results: SharedResults, shared: LosableStore, clock: ManualClock
) -> None:
    shared.away = True
    for _ in range(3):
        await results.claim("job")
    assert shared.asked == 1
    clock.now += PAUSE_SECONDS
    await results.claim("job")
    await results.claim("job")
    assert shared.asked == 2


async def test_a_claim_is_released_even_while_the_store_is_left_alone(
    results: SharedResults, shared: LosableStore
) -> None:
    shared.away = True
    await results.claim("job")
    await results.release("job")
    assert shared.asked == 2


async def test_results_are_shared_again_after_an_outage(
    results: SharedResults, shared: LosableStore, clock: ManualClock
) -> None:
    shared.away = True
    await results.keep(kept("a"))
    shared.away = False
    clock.now += PAUSE_SECONDS
    await results.keep(kept("b"))
    assert (await shared.find("a"), await shared.find("b")) == (None, kept("b"))
