"""Nodes of services and orchestrators die, freeze or stop in the middle of chains."""

import asyncio
import random

import pytest

from contracts.megaservice import MegaServiceRequest
from tests.faults.harness.chain_account import ChainAccount
from tests.faults.harness.chain_fleet import ChainFleet
from tests.faults.harness.chain_services import STAGES, chained
from tests.faults.harness.fleet import FleetNode
from tests.faults.harness.proxy import ACK, Proxy
from tests.faults.harness.report import assert_nothing_lost

SEED = 5


@pytest.mark.parametrize("are_sharing", [True, False], ids=["sharing results", "each alone"])
async def test_a_node_killed_in_a_stage_another_one_finishes_it(
    chain_fleet: ChainFleet, chains: ChainAccount, are_sharing: bool
) -> None:
    await chain_fleet.serve(1, 2, **(chain_fleet.shared if are_sharing else {}))
    await chain_fleet.orchestrate("one")
    chain = await chains.submit(chained(make=2.0))
    chain_fleet.node(await chains.in_stage(chain, "make")).kill()
    chains.injected("node of a stage killed")
    report = await chains.settled(60)
    assert_nothing_lost(report)
    assert chains.superfluous(chain) == {"make": 1}


@pytest.mark.parametrize("are_sharing", [True, False], ids=["sharing results", "alone"])
async def test_a_node_killed_in_a_stage_finishes_it_once_it_is_back(
    chain_fleet: ChainFleet, chains: ChainAccount, are_sharing: bool
) -> None:
    await chain_fleet.serve(1, **(chain_fleet.shared if are_sharing else {}))
    await chain_fleet.orchestrate("one")
    chain = await chains.submit(chained(left=2.0))
    node = chain_fleet.node(await chains.in_stage(chain, "left"))
    node.kill()
    chains.injected("only node of a stage killed")
    if not are_sharing:
        chains.store = None  # what it answered and had not acked dies with it, and is done again
    await chain_fleet.restart(node)
    report = await chains.settled(60)
    assert_nothing_lost(report)
    # The node had the other branch as well, and perhaps not answered it yet.
    assert chains.superfluous(chain) in ({"left": 1}, {"left": 1, "right": 1})


async def test_a_node_killed_between_its_answer_and_its_ack_repeats_nothing(
    chain_fleet: ChainFleet, chains: ChainAccount, bad_link: Proxy
) -> None:
    await chain_fleet.serve(1, **chain_fleet.shared)
    await chain_fleet.orchestrate("one")
    maker = chain_fleet.node("chain-maker-1")
    maker.kill()
    settings = maker.started_with | {"instance_id": "chain-maker-2"}
    del settings["amqp_url"], settings["instance_id"]
    maker = await chain_fleet.start("chain-maker-2", urls=[bad_link.url], **settings)
    bad_link.half_open("to_broker", role="consume", at=ACK)
    chain = await chains.submit()
    await chains.in_stage(chain, "judge")
    maker.kill()
    bad_link.restore()
    chains.injected("node of a stage killed between confirm and ack")
    await chain_fleet.restart(maker)
    report = await chains.settled(60)
    assert_nothing_lost(report)
    assert chains.superfluous(chain) == {}


async def test_two_orchestrators_share_the_load_and_one_dies_again_and_again(
    chain_fleet: ChainFleet, chains: ChainAccount
) -> None:
    draw = random.Random(SEED)
    await chain_fleet.serve(1, 2, **chain_fleet.shared)
    await chain_fleet.orchestrate("steady", "mortal")
    for number in range(40):
        await chains.submit(some_chain(draw, number))
    for _ in range(3):
        await asyncio.sleep(draw.uniform(0.1, 1.5))
        mortal = chain_fleet.node("mortal")
        mortal.kill()
        chains.injected("one of two orchestrators killed")
        await chain_fleet.restart(mortal)
    for number in range(40, 50):
        await chains.submit(some_chain(draw, number))
    report = await chains.settled(120)
    assert_nothing_lost(report)
    assert report.succeeded == 50
    assert [more for chain in chains.entries if (more := chains.superfluous(chain))] == []
    assert all(node_did_some(chain_fleet, name) for name in ("steady", "mortal"))


def some_chain(draw: random.Random, number: int) -> MegaServiceRequest:
    paces = {draw.choice(STAGES): draw.uniform(0.1, 1.5) for _ in range(2)}
    return chained(f"chain {number}", failures=number % 2, **paces)


def node_did_some(fleet: ChainFleet, name: str) -> bool:
    nodes = [node for node in fleet.nodes if node.name == name]
    return any(node.log("request.settled", status="succeeded") for node in nodes)


async def test_an_orchestrator_frozen_in_a_chain_does_no_harm_when_it_goes_on(
    chain_fleet: ChainFleet, chains: ChainAccount
) -> None:
    await chain_fleet.serve(1, **chain_fleet.shared)
    (one,) = await chain_fleet.orchestrate("one")
    chain = await chains.submit(chained(make=1.0))
    await chains.in_stage(chain, "make")
    one.suspend()
    chains.injected("orchestrator frozen past the heartbeat")
    await chain_fleet.orchestrate("two")
    await chains.result(chain, 60)
    one.cont()
    await one.logged("inbox.opened", times=2)
    after = await chains.submit(chained("a dog"))
    report = await chains.settled()
    assert_nothing_lost(report)
    assert (chains.superfluous(chain), chains.superfluous(after)) == ({}, {})


async def test_told_to_stop_it_hands_its_chain_over_and_stops_no_job(
    chain_fleet: ChainFleet, chains: ChainAccount
) -> None:
    await chain_fleet.serve(1)
    (one,) = await chain_fleet.orchestrate("one", grace_seconds="0")
    for stage in STAGES:
        chain = await chains.submit(chained(**{stage: 4.0}))
        await chains.in_stage(chain, stage)
        one.stop()
        chains.injected("orchestrator told to stop, without grace")
        (one,) = await chain_fleet.orchestrate(f"after-{stage}", grace_seconds="0")
        await chains.result(chain)
        assert (chains.superfluous(chain), chains.stages(chain, "stopped")) == ({}, [])
    assert [node.exit_code for node in orchestrators(chain_fleet)[:-1]] == [0] * len(STAGES)
    assert_nothing_lost(await chains.settled())


async def test_told_to_stop_with_grace_it_finishes_its_chain(
    chain_fleet: ChainFleet, chains: ChainAccount
) -> None:
    await chain_fleet.serve(1)
    one, _ = await chain_fleet.orchestrate("one", "two", grace_seconds="60", slots="1")
    jobs = [await chains.submit(chained(f"chain {n}", make=2.0)) for n in range(2)]
    for chain in jobs:
        await chains.in_stage(chain, "make")
    one.stop()
    chains.injected("orchestrator told to stop, with grace")
    assert await one.ended() == 0
    assert len(one.log("request.settled", status="succeeded")) == 1
    report = await chains.settled()
    assert_nothing_lost(report)
    assert [chains.superfluous(chain) for chain in jobs] == [{}, {}]


def orchestrators(fleet: ChainFleet) -> list[FleetNode]:
    return [node for node in fleet.nodes if "Orchestrator" in node.started_with["component"]]
