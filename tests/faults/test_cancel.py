"""A cancel comes early, in time, late, for nobody, or not at all."""

import pytest

from node.errors import Unroutable
from tests.faults.harness.account import Account
from tests.faults.harness.broker import FaultyBroker
from tests.faults.harness.fleet import Fleet
from tests.faults.harness.paced import paced
from tests.faults.harness.proxy import Proxy
from tests.faults.harness.report import assert_nothing_lost

LONG_STEPS = 100
"""Two seconds of work: time enough to interfere."""


async def test_cancelled_before_its_delivery_a_job_never_runs(
    fleet: Fleet, account: Account
) -> None:
    node = await fleet.start("one", look_ahead="0")
    running = await account.submit(paced(steps=LONG_STEPS))
    await fleet.begun(running)
    queued = await account.submit(ends=["cancelled"])
    await account.cancel(queued)
    await node.logged("job.cancel_requested", job_id=queued, running=False)
    report = await account.settled()
    assert_nothing_lost(report)
    assert (report.cancelled, fleet.generated(queued)) == (1, 0)


async def test_cancelled_in_the_look_ahead_a_job_ends_at_once(
    fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    running = await account.submit(paced(steps=LONG_STEPS * 2))
    waiting = await account.submit(ends=["cancelled"])
    await fleet.begun(running)
    await account.cancel(waiting)
    await account.result(waiting)
    assert not fleet.generated(running, "finished")
    report = await account.settled()
    assert_nothing_lost(report)
    assert (report.cancelled, fleet.generated(waiting)) == (1, 0)


async def test_cancelled_while_it_runs_a_job_stops_before_its_next_step(
    fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    job = await account.submit(paced(steps=1000), ends=["cancelled"])
    await fleet.begun(job)
    await account.cancel(job)
    await account.result(job, patience_seconds=5.0)
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(job, "finished") == 0


async def test_a_cancel_after_the_end_changes_nothing(fleet: Fleet, account: Account) -> None:
    node = await fleet.start("one")
    job = await account.submit(job_id="done")
    await account.result(job)
    await account.cancel(job)
    await node.logged("job.cancel_requested", job_id=job)
    await account.submit(job_id="done")
    report = await account.settled()
    assert_nothing_lost(report)
    assert (report.succeeded, fleet.generated(job)) == (1, 1)


async def test_a_cancel_of_a_job_that_nobody_knows_waits_for_it(
    fleet: Fleet, account: Account
) -> None:
    nodes = [await fleet.start(name) for name in ("one", "two")]
    await account.cancel("not-submitted-yet")
    for node in nodes:
        await node.logged("job.cancel_requested", job_id="not-submitted-yet")
    await account.submit(job_id="not-submitted-yet", ends=["cancelled"])
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated("not-submitted-yet") == 0


async def test_a_cancel_that_is_lost_on_the_way_leaves_the_job_to_succeed(
    fleet: Fleet, account: Account, bad_link: Proxy
) -> None:
    node = await fleet.start("one", urls=[bad_link.url])
    job = await account.submit(paced(steps=50))
    await fleet.begun(job)
    bad_link.half_open("to_client", role="control")
    await account.cancel(job)
    account.injected("cancel lost")
    await account.result(job)
    bad_link.restore()
    report = await account.settled()
    assert_nothing_lost(report)
    assert not node.log("job.cancel_requested")


async def test_without_any_node_a_cancel_says_so(fleet: Fleet, account: Account) -> None:
    node = await fleet.start("one")
    node.stop()
    await node.ended()
    job = await account.submit()
    with pytest.raises(Unroutable, match="no node"):
        await account.cancel(job)
    await fleet.start("two")
    assert_nothing_lost(await account.settled())


async def test_cancelled_and_then_killed_the_job_is_not_done_by_the_next_node(
    fleet: Fleet, account: Account, bad_link: Proxy
) -> None:
    one = await fleet.start("one", urls=[bad_link.url])
    job = await account.submit(paced(steps=1000), ends=["cancelled"])
    await fleet.begun(job)
    two = await fleet.start("two")
    bad_link.half_open("to_broker", role="publish")
    await account.cancel(job)
    await one.logged("request.settled", job_id=job, status="cancelled")
    await two.logged("job.cancel_requested", job_id=job)
    one.kill()
    account.injected("node killed after a cancel")
    bad_link.restore()
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(job) == 1


async def test_a_cancel_is_heard_after_all_connections_were_closed(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    job = await account.submit(paced(steps=1000), ends=["cancelled"])
    await fleet.begun(job)
    await broker.close_connections()
    account.injected("connections closed before a cancel")
    await fleet.node("one").logged("inbox.opened", times=2)
    await account.cancel(job)
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(job) == 1
