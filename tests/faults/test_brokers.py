"""The broker dies, stops, stands still, is full, or does what its operator wants."""

import asyncio
from pathlib import Path

import pytest

from contracts.failure import FailureCode
from contracts.topology import (
    DEAD_LETTER,
    DELIVERY_LIMIT,
    dead_queue,
    results_queue,
    retry_queue,
)
from deploy.private_broker import PrivateBroker
from node.commands.permissions import Role
from node.errors import Overloaded, PublishRefused
from tests.faults.harness.account import Account
from tests.faults.harness.broker import ALL, NOTHING, FaultyBroker
from tests.faults.harness.fleet import Fleet, FleetNode
from tests.faults.harness.paced import paced
from tests.faults.harness.report import assert_nothing_lost
from tests.faults.harness.waiting import until
from tests.harness import SERVICE

LONG_STEPS = 100
"""Two seconds of work: time enough to interfere."""
_MAY = Role(serves=["text2image"], replies=False).permissions()
LEAST = (_MAY.configure, _MAY.write, _MAY.read)
"""What a node configures, writes and reads; it may not write to the default exchange."""
PAST_HEARTBEAT_SECONDS = 7.0
"""After two missed heartbeats of two seconds each peer gives the other one up."""


async def test_killed_with_jobs_queued_and_running_none_is_lost_or_done_twice(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    jobs = await account.submit_many(6, steps=LONG_STEPS // 2)
    await fleet.begun(jobs[0])
    await broker.kill()
    account.injected("broker killed")
    await until(lambda: fleet.generated(jobs[0], "finished"), "work goes on without a broker")
    await broker.start()
    account.healed("broker killed")
    report = await account.settled(60)
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 6}


async def test_killed_while_two_nodes_work_every_job_is_done(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    await fleet.start("two")
    jobs = await account.submit_many(8, steps=LONG_STEPS // 2)
    for job in jobs[:2]:
        await fleet.begun(job)
    await broker.kill()
    await broker.start()
    account.healed("broker killed under two nodes")
    report = await account.settled(60)
    assert_nothing_lost(report)


async def test_restarted_in_order_it_loses_nothing(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    jobs = await account.submit_many(4, steps=LONG_STEPS // 2)
    await fleet.begun(jobs[0])
    account.injected("broker restarted")
    await broker.restart()
    account.healed("broker restarted")
    report = await account.settled(60)
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 4}


async def test_absent_when_the_node_starts_and_when_the_caller_submits_it_is_waited_for(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    await broker.stop()
    node = fleet.launch("one")
    await node.logged("connection.refused")
    await broker.start()
    account.healed("broker absent at the start")
    await node.ready()
    await account.submit(timeout_seconds=20)
    assert_nothing_lost(await account.settled())


async def test_frozen_past_the_heartbeat_the_running_job_is_not_done_again(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    node = await fleet.start("one")
    jobs = await account.submit_many(2, steps=LONG_STEPS)
    await fleet.begun(jobs[0])
    await broker.suspend()
    account.injected("broker frozen past the heartbeat")
    await node.logged("connection.lost", role="consume")
    await broker.resume()
    account.healed("broker frozen past the heartbeat")
    report = await account.settled(60)
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 2}


async def test_a_memory_alarm_holds_results_back_and_loses_none(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    node = await fleet.start("one")
    jobs = await account.submit_many(3, steps=30)
    await fleet.begun(jobs[0])
    await broker.alarm(True)
    account.injected("memory alarm")
    await until(lambda: fleet.generated(jobs[1], "finished"), "work goes on")
    await node.logged("publish.repeated")
    await broker.alarm(False)
    account.healed("memory alarm")
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 3}


async def test_a_consumer_timeout_shorter_than_the_job_does_not_repeat_it(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    await broker.consumer_timeout(1.0)
    node = await fleet.start("one")
    job = await account.submit(paced(steps=200))
    account.injected("consumer timeout")
    await node.logged("inbox.opened", times=2)
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(job) == 1


async def test_a_queue_deleted_under_its_consumer_does_not_cost_the_running_job(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    node = await fleet.start("one")
    job = await account.submit(paced(steps=LONG_STEPS))
    await fleet.begun(job)
    await broker.delete_queue(SERVICE)
    account.injected("queue deleted under its consumer")
    await node.logged("inbox.opened", times=2)
    await account.submit(paced("a dog"))
    assert_nothing_lost(await account.settled())


async def test_a_full_queue_is_told_to_the_caller_and_what_was_confirmed_is_done(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    node = await fleet.start("one", look_ahead="0")
    await broker.max_length(SERVICE, 2)
    first = await account.submit(paced(steps=LONG_STEPS))
    await fleet.begun(first)
    refused = 0
    for seed in range(8):
        try:
            await account.submit(paced("many", seed=seed))
        except Overloaded:
            refused += 1
    account.injected("request queue full")
    report = await account.settled()
    assert_nothing_lost(report)
    assert 0 < refused < 8
    assert (report.confirmed, report.recovered) == (9 - refused, 0)
    assert node.exit_code is None


async def test_a_full_queue_of_results_holds_results_back_until_somebody_reads_them(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    node = await fleet.start("one")
    await broker.max_length(results_queue(SERVICE), 1)
    jobs = [
        await account.submit_raw(paced(seed=seed), answered=False, correlation_id=str(seed))
        for seed in range(4)
    ]
    await node.logged("publish.repeated")
    account.injected("result queue full")
    report = await account.settled()
    assert_nothing_lost(report)
    assert [fleet.generated(job) for job in jobs] == [1, 1, 1, 1]


async def _fill_dead_letters(node: FleetNode, account: Account) -> list[str]:
    """Submit bad requests until their dead letters find no room; return their job ids."""
    jobs: list[str] = []

    def answered_or_full() -> bool:
        return bool(account.entries[jobs[-1]].visible or node.log("publish.repeated"))

    while not node.log("publish.repeated"):
        bad = paced("bad", failure="generation")
        jobs.append(await account.submit(bad, ends=[FailureCode.GENERATION_FAILED.value]))
        await until(answered_or_full, "the caller is answered, or no room is left")
        assert len(jobs) < 20, "the bounded queue takes everything"
    return jobs


async def _publish_dead_letters(account: Account, count: int) -> None:
    for _ in range(count):
        await account.caller.publish({}, exchange=DEAD_LETTER, routing_key=dead_queue(SERVICE))


async def test_a_full_dead_letter_queue_keeps_no_result_from_its_caller(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    node = await fleet.start("one")
    await broker.max_length(dead_queue(SERVICE), 1)
    jobs = await _fill_dead_letters(node, account)
    account.injected("dead-letter queue full")
    dead = await broker.take(dead_queue(SERVICE))
    await account.submit(paced("a dog"))
    assert_nothing_lost(await account.settled())
    async with asyncio.timeout(20):
        while len(dead) < len(jobs):
            dead += await broker.take(dead_queue(SERVICE))
    assert {each.properties.message_id for each in dead} == set(jobs)


async def test_a_poison_request_is_answered_although_the_dead_letter_queue_is_full(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    async with fleet.kept_alive("one", look_ahead="0"):
        await broker.max_length(dead_queue(SERVICE), 1)
        with pytest.raises(PublishRefused):
            await _publish_dead_letters(account, 20)
        poison = await account.submit(
            paced("poison", failure="abort"), ends=[FailureCode.ATTEMPTS_EXHAUSTED.value]
        )
        account.injected("poison request and a full dead-letter queue")
        await account.result(poison, patience_seconds=60)
        await broker.take(dead_queue(SERVICE))
        report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(poison) == DELIVERY_LIMIT + 1


async def test_a_full_retry_queue_turns_a_passing_failure_into_a_final_one(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    await broker.max_length(retry_queue(SERVICE, 5), 1)
    request = paced("no memory", failure="out_of_memory", times=1)
    ends = ["succeeded", FailureCode.OUT_OF_MEMORY.value]
    for _ in range(4):
        await account.submit(request, ends=ends)
    account.injected("retry queue full")
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.failed_as_asked > 0
    assert report.succeeded > 0


async def test_permissions_revoked_and_given_back_lose_nothing(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    await broker.add_user("worker")
    node = await fleet.start("one", urls=[broker.login("worker")])
    jobs = await account.submit_many(3, steps=LONG_STEPS)
    await fleet.begun(jobs[0])
    await broker.permit("worker", NOTHING)
    await broker.close_connections()
    account.injected("permissions revoked")
    await node.logged("inbox.refused")
    assert node.exit_code is None
    await broker.permit("worker", ALL)
    account.healed("permissions revoked")
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 3}


async def test_a_node_with_the_least_permissions_serves_and_keeps_results_it_may_not_send(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    await fleet.start("declares-the-queues")
    fleet.close()
    await broker.add_user("least")
    await broker.permit("least", LEAST)
    await fleet.start("one", urls=[broker.login("least")], configure_topology="false")
    # Its reply queue is reached through the default exchange only, which this user may not use.
    asked = await account.submit_raw()
    kept = await account.submit_raw(paced("a dog"), answered=False)
    report = await account.settled()
    assert_nothing_lost(report)
    assert (fleet.generated(asked), fleet.generated(kept)) == (1, 1)


@pytest.mark.parametrize("rounds", [3])
async def test_closing_all_connections_again_and_again_repeats_no_work(
    broker: FaultyBroker, fleet: Fleet, account: Account, rounds: int
) -> None:
    node = await fleet.start("one")
    jobs = await account.submit_many(4, steps=LONG_STEPS)
    await fleet.begun(jobs[0])
    for times in range(rounds):
        await broker.close_connections()
        account.injected("all connections closed")
        await node.logged("inbox.opened", times=times + 2)
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 4}


async def test_requests_wait_in_the_queue_while_no_node_is_there(
    fleet: Fleet, account: Account
) -> None:
    one = await fleet.start("one")
    one.stop()
    assert await one.ended() == 0
    await account.submit_many(3)
    account.injected("no node")
    await fleet.start("two")
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 3}


async def test_a_result_larger_than_the_broker_takes_fails_clearly(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    private = PrivateBroker(settings=["max_message_size = 1000000"])
    broker = FaultyBroker(private)
    try:
        await broker.start()
        with Fleet([broker.url], tmp_path) as fleet:
            async with Account.open([broker.url], fleet, request.node.name) as account:
                await fleet.start("one")
                large = paced("large", padding_bytes=900_000)
                await account.submit(large, ends=[FailureCode.RESULT_TOO_LARGE.value])
                await account.submit(paced("small"))
                assert_nothing_lost(await account.settled())
    finally:
        private.close()
