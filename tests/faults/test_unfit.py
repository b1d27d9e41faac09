"""A node finds that it cannot work any more, and takes itself out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts.discovery import Announcement, NodeState
from contracts.failure import FailureCode
from contracts.topology import DISCOVERY
from node.amqp.broker import AmqpBroker
from node.ports import Subscribed
from node.tasks import running
from tests.faults.harness.account import Account
from tests.faults.harness.broker import FaultyBroker
from tests.faults.harness.fleet import Fleet
from tests.faults.harness.paced import paced
from tests.faults.harness.report import assert_nothing_lost
from tests.faults.harness.waiting import until


@asynccontextmanager
async def announced_states(broker: FaultyBroker, instance: str) -> AsyncIterator[list[NodeState]]:
    """Collect the states that an instance announces."""
    states: list[NodeState] = []
    amqp = AmqpBroker([broker.url])
    subscription = amqp.subscription([Subscribed(DISCOVERY, f"announce.*.{instance}")])

    async def listen() -> None:
        async for message in subscription:
            announcement = Announcement.model_validate_json(message.body)
            states.append(announcement.metadata.state)

    async with amqp.running(), running(run=subscription.run(), listen=listen()):
        await subscription.queue_name()
        yield states


async def test_a_hung_inference_thread_is_given_up_and_the_process_starts_anew(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    node = await fleet.start("one", stall_seconds="1.5")
    pid = node.pid
    async with announced_states(broker, "one") as states:
        hung = await account.submit(paced("hangs", steps=10, at_step=3, hang_seconds=600, times=1))
        waiting = await account.submit(paced("a dog"))
        account.injected("inference thread hangs")
        await node.logged("node.unfit")
        await node.logged("node.ready", times=2)
        report = await account.settled()
        await until(lambda: NodeState.UNHEALTHY in states, "it says that it is unhealthy")
    assert_nothing_lost(report)
    assert (fleet.generated(hung), fleet.generated(waiting)) == (2, 1)
    assert (node.pid, node.exit_code) == (pid, None)


async def test_a_job_that_hangs_every_time_is_given_up_in_the_end(
    fleet: Fleet, account: Account
) -> None:
    await fleet.start("one", stall_seconds="1.0")
    await fleet.start("two", stall_seconds="1.0")
    ends = [FailureCode.INTERNAL.value, FailureCode.ATTEMPTS_EXHAUSTED.value]
    hung = await account.submit(paced("hangs", hang_seconds=600), ends=ends, deadline_seconds=12.0)
    innocent = await account.submit_many(4)
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(hung) == 2, "once, and once more before the deadline"
    assert [fleet.generated(job) for job in innocent] == [1] * 4


async def test_a_slow_job_that_gives_signs_of_life_is_left_alone(
    fleet: Fleet, account: Account
) -> None:
    node = await fleet.start("one", stall_seconds="1.0")
    job = await account.submit(paced(steps=10, step_seconds=0.4))
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(job) == 1
    assert not node.log("node.unfit")


async def test_three_jobs_in_a_row_that_crash_it_make_a_node_start_anew(
    fleet: Fleet, account: Account
) -> None:
    node = await fleet.start("one")
    jobs = await account.submit_many(3, failure="bug", times=1)
    account.injected("three jobs in a row crash")
    await node.logged("node.ready", times=2)
    report = await account.settled()
    assert_nothing_lost(report)
    assert [fleet.generated(job) for job in jobs] == [2] * 3


async def test_while_an_unfit_node_starts_anew_another_takes_its_jobs(
    fleet: Fleet, account: Account
) -> None:
    one = await fleet.start("one", look_ahead="4", stall_seconds="1.5")
    hung = await account.submit(paced("hangs", hang_seconds=600, times=1))
    await fleet.begun(hung)
    held = await account.submit_many(4)
    await fleet.start("two")
    account.injected("one node of two unfit")
    await one.logged("node.unfit")
    report = await account.settled()
    assert_nothing_lost(report)
    assert [fleet.generated(job) for job in held] == [1] * 4
