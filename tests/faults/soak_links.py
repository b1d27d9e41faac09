"""Links that are bad for a minute; run by path: `pytest tests/faults/soak_links.py`."""

import time

import pytest

from tests.faults.harness.account import Account
from tests.faults.harness.fleet import Fleet
from tests.faults.harness.paced import paced
from tests.faults.harness.proxy import Proxy
from tests.faults.harness.report import assert_nothing_lost

MINUTE_SECONDS = 60.0


@pytest.mark.parametrize("period_seconds", [2.0, 7.0])
async def test_a_minute_of_flapping_loses_nothing(
    fleet: Fleet, account: Account, bad_link: Proxy, period_seconds: float
) -> None:
    await fleet.start("one", urls=[bad_link.url])
    await fleet.start("two")
    bad_link.flap(period_seconds)
    account.injected(f"link flapping every {period_seconds:g} s for a minute")
    until, seed = time.monotonic() + MINUTE_SECONDS, 0
    while time.monotonic() < until:
        seed += 1
        job = await account.submit(paced(seed=seed, steps=25))
        if seed % 4 == 0:
            await account.result(job)
    bad_link.restore()
    report = await account.settled(90)
    assert_nothing_lost(report)
    assert report.confirmed > MINUTE_SECONDS


async def test_a_minute_of_flapping_between_caller_and_broker_loses_nothing(
    fleet: Fleet, bad_link: Proxy, request: pytest.FixtureRequest
) -> None:
    await fleet.start("one")
    async with Account.open([bad_link.url], fleet, request.node.name) as account:
        bad_link.flap(3.0)
        account.injected("caller's link flapping every 3 s for a minute")
        until, seed = time.monotonic() + MINUTE_SECONDS, 0
        while time.monotonic() < until:
            seed += 1
            job = await account.submit(paced(seed=seed, steps=10))
            await account.result(job)
        bad_link.restore()
        report = await account.settled(90)
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: report.confirmed}
