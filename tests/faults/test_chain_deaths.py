"""An orchestrator is killed at points of its chain that are drawn from a seed.

`test_chain_points.py` does the same at every point.
"""

import os
import random
import signal
from pathlib import Path

from tests.faults.harness.chain_account import ChainAccount
from tests.faults.harness.chain_deaths import Deaths
from tests.faults.harness.chain_fleet import ChainFleet
from tests.faults.harness.chain_services import chained
from tests.faults.harness.report import assert_nothing_lost

SEED = int(os.environ.get("CHAIN_DEATHS_SEED", "1"))
DEATHS = 10
POINTS = 150
"""Fewer than a chain has."""


async def test_killed_at_any_point_its_chain_ends_once_and_no_work_is_repeated(
    chain_fleet: ChainFleet, chains: ChainAccount, tmp_path: Path
) -> None:
    await chain_fleet.serve(1, **chain_fleet.shared)
    deaths = Deaths(chain_fleet, chains, tmp_path)
    points = sorted(random.Random(SEED).sample(range(1, POINTS), k=DEATHS))
    died = await deaths.die(deaths.launch(points))
    assert all(death.point for death in died)
    await deaths.ended(await deaths.survivor("survivor", died), died)
    report = await chains.settled()
    assert_nothing_lost(report)
    assert report.succeeded == DEATHS
    assert [(d.point, more) for d in died if (more := chains.superfluous(d.chain))] == []


async def test_restarted_after_each_death_the_same_orchestrator_finishes_its_chain(
    chain_fleet: ChainFleet, chains: ChainAccount
) -> None:
    await chain_fleet.serve(1, **chain_fleet.shared)
    chain = ""
    for kill_at in (20, 60, 0):
        (node,) = await chain_fleet.orchestrate(
            "one", chain_kill_at=str(kill_at), chain_points=os.devnull
        )
        chain = chain or await chains.submit(chained(failures=1))
        if kill_at:
            assert await node.ended() == -signal.SIGKILL
            chains.injected("the only orchestrator killed")
    report = await chains.settled(60)
    assert_nothing_lost(report)
    assert chains.superfluous(chain) == {}
