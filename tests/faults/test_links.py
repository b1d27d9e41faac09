"""What fails is the link between a node, or a caller, and the broker."""

import asyncio

import pytest

from contracts.topology import DELIVERY_LIMIT
from node.errors import Unroutable
from tests.faults.harness.account import Account
from tests.faults.harness.broker import FaultyBroker
from tests.faults.harness.fleet import Fleet
from tests.faults.harness.paced import paced
from tests.faults.harness.proxy import (
    ACK,
    CONSUME,
    DECLARE,
    OPEN_CONNECTION,
    Directions,
    Proxy,
)
from tests.faults.harness.report import assert_nothing_lost
from tests.faults.harness.waiting import until

LONG_STEPS = 100
"""Two seconds of work: time enough to interfere."""


@pytest.mark.parametrize("direction", ["to_broker", "to_client", "both"])
async def test_a_half_open_link_is_noticed_and_the_running_job_is_not_done_again(
    fleet: Fleet, account: Account, bad_link: Proxy, direction: Directions
) -> None:
    node = await fleet.start("one", urls=[bad_link.url])
    jobs = await account.submit_many(3, steps=LONG_STEPS)
    await fleet.begun(jobs[0])
    bad_link.half_open(direction)
    account.injected(f"half-open link {direction}")
    await node.logged("connection.lost", role="consume")
    bad_link.restore()
    account.healed(f"half-open link {direction}")
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 3}


async def test_while_its_link_is_dead_another_node_does_the_job(
    fleet: Fleet, account: Account, bad_link: Proxy
) -> None:
    await fleet.start("one", urls=[bad_link.url])
    job = await account.submit(paced(steps=LONG_STEPS))
    await fleet.begun(job)
    bad_link.half_open()
    account.injected("dead link of one node of two")
    await fleet.start("two")
    await account.result(job)
    bad_link.restore()
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(job) == 2


@pytest.mark.parametrize("patience", ["3", "30"], ids=["timeout_first", "heartbeat_first"])
async def test_a_lost_confirm_makes_a_second_equal_copy_and_the_caller_sees_one(
    fleet: Fleet, account: Account, bad_link: Proxy, patience: str
) -> None:
    node = await fleet.start("one", urls=[bad_link.url], publish_timeout_seconds=patience)
    job = await account.submit(paced(steps=20))
    await fleet.begun(job)
    bad_link.half_open("to_client", role="publish")
    account.injected("lost confirm")
    await account.result(job)
    await node.logged("publish.repeated")
    bad_link.restore()
    await account.copies(job, 2)
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(job) == 1


async def test_an_ack_that_arrives_late_does_no_harm(
    fleet: Fleet, account: Account, bad_link: Proxy
) -> None:
    node = await fleet.start("one", urls=[bad_link.url])
    bad_link.stall("to_broker", role="consume", at=ACK)
    job = await account.submit(paced(steps=5))
    await account.result(job)
    account.injected("ack held back")
    await node.logged("connection.lost", role="consume")
    bad_link.restore()
    await account.submit(paced("a dog"))
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 2}


async def test_a_link_cut_more_often_than_the_delivery_limit_allows_fails_no_job_that_runs(
    broker: FaultyBroker, fleet: Fleet, account: Account, bad_link: Proxy
) -> None:
    node = await fleet.start("one", urls=[bad_link.url])
    job = await account.submit(paced(steps=500))
    await fleet.begun(job)
    for times in range(1, DELIVERY_LIMIT + 2):
        bad_link.cut(role="consume")
        account.injected("consuming connection cut again")
        await node.logged("request.joined", job_id=job, times=times)
    assert not fleet.generated(job, "finished"), "it is still the first delivery's work"
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(job) == 1


async def test_a_flapping_link_loses_nothing(
    fleet: Fleet, account: Account, bad_link: Proxy
) -> None:
    await fleet.start("one", urls=[bad_link.url])
    await fleet.start("two")
    account.injected("link flapping every 2 s")
    bad_link.flap(period_seconds=2.0)
    await account.submit_many(40, steps=10)
    report = await account.settled()
    bad_link.restore()
    assert_nothing_lost(report)


async def test_only_a_flapping_node_is_there_and_every_job_is_done(
    fleet: Fleet, account: Account, bad_link: Proxy
) -> None:
    await fleet.start("one", urls=[bad_link.url])
    bad_link.flap(period_seconds=3.0)
    account.injected("only node flapping every 3 s")
    jobs = await account.submit_many(6, steps=20)
    report = await account.settled(60)
    bad_link.restore()
    assert_nothing_lost(report)
    assert [fleet.generated(job) for job in jobs] == [1] * len(jobs)


async def test_a_slow_link_slows_jobs_down_and_nothing_else(
    fleet: Fleet, account: Account, bad_link: Proxy
) -> None:
    node = await fleet.start("one", urls=[bad_link.url])
    bad_link.latency(0.4)
    await account.submit_many(4)
    account.injected("0.4 s of latency each way")
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 4}
    assert not node.log("connection.lost")


async def test_only_the_publishing_connection_is_cut_and_the_result_goes_out_on_the_next_one(
    fleet: Fleet, account: Account, bad_link: Proxy
) -> None:
    node = await fleet.start("one", urls=[bad_link.url])
    job = await account.submit(paced(steps=LONG_STEPS))
    await fleet.begun(job)
    bad_link.cut(role="publish")
    account.injected("publishing connection cut")
    await node.logged("connection.opened", role="publish", times=2)
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(job) == 1
    assert len(node.log("inbox.opened")) == 1, "deliveries were not touched"


async def test_the_callers_link_is_cut_and_its_results_come_on_the_new_one(
    broker: FaultyBroker, fleet: Fleet, bad_link: Proxy, request: pytest.FixtureRequest
) -> None:
    node = await fleet.start("one")
    async with Account.open([bad_link.url], fleet, request.node.name) as account:
        jobs = await account.submit_many(3, steps=LONG_STEPS // 2)
        await fleet.begun(jobs[0])
        bad_link.refuse()
        account.injected("caller cut off")
        await node.logged("reply.unroutable")
        bad_link.restore()
        account.healed("caller cut off")
        report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 3}
    assert await broker.depth("text2image") == 0


async def test_the_callers_link_is_half_open_while_it_submits(
    fleet: Fleet, bad_link: Proxy, request: pytest.FixtureRequest
) -> None:
    await fleet.start("one")
    async with Account.open([bad_link.url], fleet, request.node.name) as account:
        bad_link.half_open("to_client", role="publish")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.0):
                await account.submit(paced(steps=5), job_id="without-confirm")
        await until(lambda: fleet.generated("without-confirm"), "it was published all the same")
        bad_link.restore()
        account.healed("confirm of a request lost")
        await account.submit(paced(steps=5), job_id="without-confirm")
        report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated("without-confirm") == 1


@pytest.mark.parametrize("at", [OPEN_CONNECTION, CONSUME], ids=["opening", "consuming"])
async def test_a_link_that_dies_while_it_is_set_up_leaves_no_deaf_node(
    fleet: Fleet, account: Account, bad_link: Proxy, at: bytes
) -> None:
    node = await fleet.start("one", urls=[bad_link.url])
    bad_link.half_open("to_client", role="consume", at=at)
    bad_link.cut(role="consume")
    account.injected("link dead while it is set up")
    noticed = ("connection.lost", 2) if at == CONSUME else ("connection.refused", 1)
    await node.logged(noticed[0], role="consume", times=noticed[1])
    bad_link.restore()
    account.healed("link dead while it is set up")
    await account.submit()
    assert_nothing_lost(await account.settled())


async def test_a_link_that_dies_while_it_listens_for_cancels_leaves_no_deaf_node(
    fleet: Fleet, account: Account, bad_link: Proxy
) -> None:
    node = await fleet.start("one", urls=[bad_link.url])
    bad_link.half_open("to_client", role="control", at=DECLARE)
    bad_link.cut(role="control")
    account.injected("control link dead while it is set up")
    await node.logged("connection.lost", role="control", times=2)
    bad_link.restore()
    account.healed("control link dead while it is set up")
    job = await account.submit(paced(steps=1000), ends=["cancelled"])
    await fleet.begun(job)
    async with asyncio.timeout(20):
        while not await _is_heard(account, job):  # noqa: ASYNC110 - asking is the work
            await asyncio.sleep(0.1)
    report = await account.settled()
    assert_nothing_lost(report)


async def _is_heard(account: Account, job_id: str) -> bool:
    try:
        await account.cancel(job_id)
    except Unroutable:
        return False
    return True


async def test_a_callers_link_that_dies_while_it_is_set_up_leaves_no_deaf_caller(
    fleet: Fleet, bad_link: Proxy, request: pytest.FixtureRequest
) -> None:
    await fleet.start("one")
    async with Account.open([bad_link.url], fleet, request.node.name) as account:
        bad_link.half_open("to_client", role="control", at=DECLARE)
        bad_link.cut(role="control")
        account.injected("caller's link dead while it is set up")
        await until(lambda: not account.broker.connected(), "the cut is noticed")
        await until(account.broker.connected, "it is connected again")
        await until(lambda: not account.broker.connected(), "the dead link is noticed")
        bad_link.restore()
        account.healed("caller's link dead while it is set up")
        await account.submit()
        report = await account.settled()
    assert_nothing_lost(report)
