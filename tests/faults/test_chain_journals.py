"""The place where orchestrators keep the answers of stages fails, lies or is lost."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tests.faults.harness.chain_account import ChainAccount
from tests.faults.harness.chain_fleet import ChainFleet
from tests.faults.harness.chain_services import chained
from tests.faults.harness.report import assert_nothing_lost
from tests.faults.harness.stores import replace_by_a_file

STORE_PAUSE_SECONDS = 5.5
"""A store that did not answer is left alone for five seconds."""


def _make_read_only(store: Path) -> None:
    # Of all folders this one lets nobody make anything in it, not even root.
    if store.exists():
        store.rename(store.with_name(f"gone-{uuid4().hex}"))
    store.symlink_to("/sys", target_is_directory=True)


def _repair(store: Path) -> None:
    store.unlink()
    store.mkdir()


@pytest.mark.parametrize("fault", [replace_by_a_file, _make_read_only])
async def test_while_its_journal_is_away_chains_end_and_an_orchestrator_may_die(
    chain_fleet: ChainFleet, chains: ChainAccount, fault: Callable[[Path], None]
) -> None:
    chain_fleet.store.mkdir()
    await chain_fleet.serve(1)
    (one,) = await chain_fleet.orchestrate("one")
    chain = await chains.submit(chained(make=2.0))
    await chains.in_stage(chain, "make")
    fault(chain_fleet.store)
    chains.injected("journal away")
    await one.logged("results.unshared")
    one.kill()
    (two,) = await chain_fleet.orchestrate("two")
    await chains.result(chain)
    during = await chains.submit(chained("meanwhile"))
    await chains.result(during)
    _repair(chain_fleet.store)
    await asyncio.sleep(STORE_PAUSE_SECONDS)
    after = await chains.submit(chained("afterwards"))
    await two.logged("results.shared_again")
    report = await chains.settled()
    assert_nothing_lost(report)
    # Services that live remember what they did; only their deaths would repeat it.
    assert [chains.superfluous(each) for each in (chain, during, after)] == [{}, {}, {}]


async def test_answers_that_the_journal_damaged_are_asked_for_again(
    chain_fleet: ChainFleet, chains: ChainAccount
) -> None:
    await chain_fleet.serve(1)
    (one,) = await chain_fleet.orchestrate("one", result_store=chain_fleet.shared["result_store"])
    chain = await chains.submit(chained(judge=4.0))
    await chains.in_stage(chain, "judge")
    one.kill()
    for file in (chain_fleet.store / "stages").rglob("result-*"):
        file.write_bytes(file.read_bytes()[:-20])
    chains.injected("journal damaged, orchestrator killed")
    (two,) = await chain_fleet.orchestrate("two")
    report = await chains.settled(60)
    assert_nothing_lost(report)
    assert two.log("result.unreadable")
    assert chains.superfluous(chain) == {}


async def test_work_is_repeated_when_both_the_journal_and_the_services_have_lost_it(
    chain_fleet: ChainFleet, chains: ChainAccount
) -> None:
    chains.store = None
    services = await chain_fleet.serve(1)
    (one,) = await chain_fleet.orchestrate("one", result_store="")
    chain = await chains.submit(chained(judge=2.0))
    await chains.in_stage(chain, "judge")
    for node in (one, *services):
        node.kill()
    chains.injected("everything killed, nothing kept")
    for node in (*services, one):
        await chain_fleet.restart(node)
    report = await chains.settled(60)
    assert_nothing_lost(report)
    assert chains.superfluous(chain) == {"plan": 1, "left": 1, "right": 1, "make": 1, "judge": 1}
