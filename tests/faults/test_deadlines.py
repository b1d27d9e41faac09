"""The deadline passes in the queue, in the node, between attempts, or while nobody is there."""

from contracts.failure import FailureCode
from tests.faults.harness.account import Account
from tests.faults.harness.broker import FaultyBroker
from tests.faults.harness.fleet import Fleet
from tests.faults.harness.paced import paced
from tests.faults.harness.report import assert_nothing_lost

LONG_STEPS = 100
"""Two seconds of work: time enough to interfere."""


async def test_past_its_deadline_in_the_queue_a_job_never_runs(
    fleet: Fleet, account: Account
) -> None:
    await fleet.start("one", look_ahead="0")
    running = await account.submit(paced(steps=LONG_STEPS))
    await fleet.begun(running)
    late = await account.submit(ends=["expired"], deadline_seconds=0.5)
    report = await account.settled()
    assert_nothing_lost(report)
    assert (report.expired, fleet.generated(late)) == (1, 0)


async def test_past_its_deadline_in_the_look_ahead_a_job_ends_at_once(
    fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    running = await account.submit(paced(steps=LONG_STEPS * 2))
    await fleet.begun(running)
    late = await account.submit(ends=["expired"], deadline_seconds=0.5)
    await account.result(late)
    assert not fleet.generated(running, "finished")
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(late) == 0


async def test_past_its_deadline_while_it_runs_a_job_stops_before_its_next_step(
    fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    late = await account.submit(paced(steps=1000), ends=["expired"], deadline_seconds=1.0)
    await account.result(late, patience_seconds=5.0)
    report = await account.settled()
    assert_nothing_lost(report)
    assert (fleet.generated(late), fleet.generated(late, "finished")) == (1, 0)


async def test_a_deadline_sooner_than_the_next_attempt_makes_the_failure_final(
    fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    await account.submit(
        paced("no memory", failure="out_of_memory", times=1),
        ends=[FailureCode.OUT_OF_MEMORY.value],
        deadline_seconds=3.0,
    )
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.failed_as_asked == 1


async def test_a_deadline_that_passes_while_the_broker_is_down_is_kept_afterwards(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    await fleet.start("one", look_ahead="0")
    running = await account.submit(paced(steps=4 * LONG_STEPS))
    await fleet.begun(running)
    late = await account.submit(ends=["expired"], deadline_seconds=2.0)
    await broker.kill()
    await broker.start()
    account.healed("broker killed past a deadline")
    report = await account.settled()
    assert_nothing_lost(report)
    assert (report.expired, fleet.generated(late)) == (1, 0)


async def test_a_killed_nodes_job_keeps_its_deadline_on_the_next_node(
    fleet: Fleet, account: Account
) -> None:
    one = await fleet.start("one")
    late = await account.submit(paced(steps=1000), ends=["expired"], deadline_seconds=3.0)
    await fleet.begun(late)
    one.kill()
    account.injected("node killed before a deadline")
    await fleet.start("two")
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(late, "finished") == 0
