"""The broker, or a link to it, goes away in the middle of chains."""

import pytest

from tests.faults.harness.broker import FaultyBroker
from tests.faults.harness.chain_account import ChainAccount
from tests.faults.harness.chain_fleet import ChainFleet
from tests.faults.harness.chain_services import STAGES, chained
from tests.faults.harness.proxy import Proxy, Role
from tests.faults.harness.report import assert_nothing_lost


@pytest.mark.parametrize("way", ["restart", "kill", "close_connections"])
async def test_the_broker_goes_and_comes_back_in_the_middle_of_chains(
    broker: FaultyBroker, chain_fleet: ChainFleet, chains: ChainAccount, way: str
) -> None:
    await chain_fleet.serve(1, 2, **chain_fleet.shared)
    await chain_fleet.orchestrate("one", "two")
    requests = [chained(f"in {stage}", **{stage: 2.0}) for stage in STAGES]
    jobs = [await chains.submit(request) for request in requests]
    await chains.in_stage(jobs[-1], "judge")
    await getattr(broker, way)()
    if way == "kill":
        await broker.start()
    chains.injected(f"broker: {way} in the middle of chains")
    report = await chains.settled(90)
    assert_nothing_lost(report)
    assert [more for chain in jobs if (more := chains.superfluous(chain))] == []


@pytest.mark.parametrize("role", [None, "consume", "publish", "control"])
async def test_the_orchestrator_loses_its_connections_in_each_stage(
    chain_fleet: ChainFleet, chains: ChainAccount, bad_link: Proxy, role: Role | None
) -> None:
    await chain_fleet.serve(1, **chain_fleet.shared)
    (one,) = await chain_fleet.orchestrate("one", urls=[bad_link.url])
    for stage in STAGES:
        chain = await chains.submit(chained(f"in {stage}", **{stage: 0.5}))
        await chains.in_stage(chain, stage)
        bad_link.cut(role=role)
        chains.injected(f"orchestrator's connections cut: {role or 'all'}")
        await chains.result(chain)
        assert chains.superfluous(chain) == {}
    assert one.log("connection.lost")
    assert_nothing_lost(await chains.settled())
