"""An orchestrator is killed at every point at which its chain waits or goes on.

All of them take minutes; `test_chain_deaths.py` draws a few.
"""

from pathlib import Path

from tests.faults.harness.chain_account import ChainAccount
from tests.faults.harness.chain_deaths import Death, Deaths
from tests.faults.harness.chain_fleet import ChainFleet
from tests.faults.harness.report import assert_nothing_lost

AT_ONCE = 24
"""So many orchestrators die side by side: what takes its time is that their claims end."""


async def test_killed_at_every_point_its_chain_ends_once_and_no_work_is_repeated(
    chain_fleet: ChainFleet, chains: ChainAccount, tmp_path: Path
) -> None:
    await chain_fleet.serve(1, 2, **chain_fleet.shared)
    deaths = Deaths(chain_fleet, chains, tmp_path)
    died: list[Death] = []
    doomed = deaths.launch(range(1, 1 + AT_ONCE))
    while doomed:
        batch = await deaths.die(doomed)
        last = max(doomed)
        is_over = any(not death.point for death in batch)
        survivor = await deaths.survivor(f"survivor-{last}", batch)
        doomed = {} if is_over else deaths.launch(range(last + 1, last + 1 + AT_ONCE))
        await deaths.ended(survivor, batch)
        died += batch
    report = await chains.settled()
    assert_nothing_lost(report)
    assert report.succeeded == len(died)
    assert [(d.point, more) for d in died if (more := chains.superfluous(d.chain))] == []
    assert report.generations_per_job == {1: 8 * len(died)}
