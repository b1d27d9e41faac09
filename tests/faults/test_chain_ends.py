"""A chain is cancelled, or its deadline passes, wherever it is and whoever has it."""

import asyncio
import random

import pytest

from contracts.megaservice import StageStatus
from tests.faults.harness.chain_account import ChainAccount
from tests.faults.harness.chain_fleet import ChainFleet
from tests.faults.harness.chain_services import STAGES, chained
from tests.faults.harness.proxy import Proxy
from tests.faults.harness.report import assert_nothing_lost

LONG_SECONDS = 60.0
"""A job so long ends only when it is stopped."""
SEED = 5


async def test_a_chain_is_cancelled_in_each_of_its_stages(
    chain_fleet: ChainFleet, chains: ChainAccount
) -> None:
    await chain_fleet.serve(1)
    await chain_fleet.orchestrate("one")
    for stage in STAGES:
        chain = await chains.submit(chained(**{stage: LONG_SECONDS}), ends=["cancelled"])
        await chains.in_stage(chain, stage)
        await chains.cancel(chain)
        result = await chains.result(chain, 5.0)
        assert result.stages[stage].status is StageStatus.CANCELLED
        await chains.nothing_runs(chain)
        assert stage not in chains.stages(chain, "finished")
    assert_nothing_lost(await chains.settled())


async def test_chains_cancelled_at_any_moment_leave_no_work_behind(
    chain_fleet: ChainFleet, chains: ChainAccount
) -> None:
    draw = random.Random(SEED)
    await chain_fleet.serve(1)
    await chain_fleet.orchestrate("one")
    jobs = []
    for number in range(60):
        either = ["cancelled", "succeeded"]
        jobs.append(await chains.submit(chained(f"chain {number}", judge=4.0), ends=either))
        await asyncio.sleep(draw.uniform(0.0, 0.25))
        await chains.cancel(jobs[-1])
    report = await chains.settled()
    assert_nothing_lost(report)
    assert report.cancelled == 60
    for chain in jobs:
        await chains.nothing_runs(chain)
    assert all("judge" not in chains.stages(chain, "finished") for chain in jobs)


async def test_a_chain_cancelled_in_the_queue_begins_nothing(
    chain_fleet: ChainFleet, chains: ChainAccount
) -> None:
    await chain_fleet.serve(1)
    await chain_fleet.orchestrate("one", slots="1", look_ahead="0")
    first = await chains.submit(chained(make=2.0))
    await chains.in_stage(first, "make")
    queued = await chains.submit(ends=["cancelled"])
    await chains.cancel(queued)
    report = await chains.settled()
    assert_nothing_lost(report)
    assert (report.cancelled, chains.stages(queued)) == (1, [])


async def test_cancelled_while_its_orchestrator_dies_a_chain_leaves_no_work_behind(
    chain_fleet: ChainFleet, chains: ChainAccount, bad_link: Proxy
) -> None:
    await chain_fleet.serve(1)
    (one,) = await chain_fleet.orchestrate("one", urls=[bad_link.url])
    chain = await chains.submit(chained(make=LONG_SECONDS), ends=["cancelled"])
    await chains.in_stage(chain, "make")
    (two,) = await chain_fleet.orchestrate("two")
    bad_link.half_open("to_broker", role="publish")
    await chains.cancel(chain)
    for each in (one, two):
        await each.logged("job.cancel_requested", job_id=chain)
    one.kill()
    bad_link.restore()
    chains.injected("orchestrator killed while it cancels")
    report = await chains.settled()
    assert_nothing_lost(report)
    await chains.nothing_runs(chain)


async def test_cancelled_while_no_orchestrator_has_it_a_chain_leaves_no_work_behind(
    chain_fleet: ChainFleet, chains: ChainAccount
) -> None:
    await chain_fleet.serve(1)
    (one,) = await chain_fleet.orchestrate("one")
    chain = await chains.submit(chained(make=LONG_SECONDS), ends=["cancelled"])
    await chains.in_stage(chain, "make")
    one.kill()
    (two,) = await chain_fleet.orchestrate("two")
    await two.logged("request.held_elsewhere", job_id=chain)
    await chains.cancel(chain)
    report = await chains.settled()
    assert_nothing_lost(report)
    await chains.nothing_runs(chain)


@pytest.mark.parametrize("is_killed", [False, True], ids=["alive", "killed"])
async def test_the_deadline_ends_every_stage_whatever_becomes_of_the_orchestrator(
    chain_fleet: ChainFleet, chains: ChainAccount, is_killed: bool
) -> None:
    await chain_fleet.serve(1)
    (one,) = await chain_fleet.orchestrate("one")
    request = chained(left=LONG_SECONDS, right=LONG_SECONDS)
    chain = await chains.submit(request, ends=["expired"], deadline_seconds=4.0)
    for stage in ("left", "right"):
        await chains.in_stage(chain, stage)
    if is_killed:
        one.kill()
        chains.injected("orchestrator killed before the deadline")
        await chain_fleet.orchestrate("two")
    report = await chains.settled()
    assert_nothing_lost(report)
    await chains.nothing_runs(chain)
    assert sorted(chains.stages(chain, "stopped")) == ["left", "right"]
