"""A node dies, is told to stop, stands still, or is brought down by what it was asked to do."""

import signal

from contracts.failure import FailureCode
from contracts.message import HEADER_DEAD_CODE
from contracts.topology import DELIVERY_LIMIT, dead_queue
from tests.faults.harness.account import Account
from tests.faults.harness.broker import FaultyBroker
from tests.faults.harness.fleet import Fleet
from tests.faults.harness.paced import paced
from tests.faults.harness.proxy import ACK, Proxy
from tests.faults.harness.report import assert_nothing_lost
from tests.faults.harness.waiting import until
from tests.harness import SERVICE

LONG_STEPS = 100
"""Two seconds of work: time enough to interfere."""


async def test_killed_before_it_began_a_job_another_node_does_it_once(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    one = await fleet.start("one")
    running = await account.submit(paced(steps=LONG_STEPS))
    waiting = await account.submit(paced("a dog"))
    await fleet.begun(running)
    assert await broker.depth(SERVICE) == 0, "both were delivered"
    one.kill()
    account.injected("node killed")
    await fleet.start("two")
    report = await account.settled()
    assert_nothing_lost(report)
    assert (fleet.generated(running), fleet.generated(waiting)) == (2, 1)


async def test_killed_in_the_middle_of_a_job_another_node_does_it(
    fleet: Fleet, account: Account
) -> None:
    one = await fleet.start("one")
    await fleet.start("two", look_ahead="0")
    jobs = await account.submit_many(2, steps=LONG_STEPS)
    for job in jobs:
        await fleet.begun(job)
    one.kill()
    account.injected("node killed, another idle soon")
    report = await account.settled()
    assert_nothing_lost(report)
    assert sorted(map(fleet.generated, jobs)) == [1, 2]


async def test_killed_between_confirm_and_ack_the_caller_sees_one_of_two_equal_results(
    fleet: Fleet, account: Account, bad_link: Proxy
) -> None:
    one = await fleet.start("one", urls=[bad_link.url])
    bad_link.half_open("to_broker", role="consume", at=ACK)
    job = await account.submit(paced(steps=5))
    await account.result(job)
    one.kill()
    bad_link.restore()
    account.injected("node killed between confirm and ack")
    await fleet.start("two")
    await account.copies(job, 2)
    report = await account.settled()
    assert_nothing_lost(report)
    assert (report.second_copies, fleet.generated(job)) == (1, 2)


async def test_killed_while_it_publishes_the_result_another_node_does_the_job(
    fleet: Fleet, account: Account, bad_link: Proxy
) -> None:
    one = await fleet.start("one", urls=[bad_link.url])
    job = await account.submit(paced(steps=20))
    await fleet.begun(job)
    bad_link.half_open("to_broker", role="publish")
    await until(lambda: fleet.generated(job, "finished"), "the work is done")
    one.kill()
    bad_link.restore()
    account.injected("node killed while it publishes")
    await fleet.start("two")
    report = await account.settled()
    assert_nothing_lost(report)
    assert (report.second_copies, fleet.generated(job)) == (0, 2)


async def test_told_to_stop_it_finishes_its_job_and_gives_the_next_one_back(
    fleet: Fleet, account: Account
) -> None:
    one = await fleet.start("one")
    running = await account.submit(paced(steps=LONG_STEPS))
    waiting = await account.submit(paced("a dog"))
    await fleet.begun(running)
    one.stop()
    account.injected("SIGTERM")
    assert await one.ended() == 0
    assert fleet.generated(waiting) == 0
    await fleet.start("two")
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 2}


async def test_told_to_stop_twice_it_hands_its_job_over_at_once(
    fleet: Fleet, account: Account
) -> None:
    one = await fleet.start("one", grace_seconds="300")
    job = await account.submit(paced(steps=LONG_STEPS))
    await fleet.begun(job)
    one.stop()
    await one.logged("worker.draining")
    one.stop()
    account.injected("SIGTERM twice")
    assert await one.ended() == 0
    assert fleet.generated(job, "finished") == 0
    await fleet.start("two")
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(job) == 2


async def test_past_its_grace_it_hands_its_job_over(fleet: Fleet, account: Account) -> None:
    one = await fleet.start("one", grace_seconds="0.2")
    await fleet.start("two", look_ahead="0")
    jobs = await account.submit_many(2, steps=LONG_STEPS)
    for job in jobs:
        await fleet.begun(job)
    one.stop()
    account.injected("SIGTERM past the grace")
    assert await one.ended() == 0
    report = await account.settled()
    assert_nothing_lost(report)
    assert sorted(map(fleet.generated, jobs)) == [1, 2]


async def test_killed_while_it_drains_its_job_is_done_elsewhere(
    fleet: Fleet, account: Account
) -> None:
    one = await fleet.start("one")
    jobs = await account.submit_many(2, steps=LONG_STEPS)
    await fleet.begun(jobs[0])
    one.stop()
    await one.logged("worker.draining")
    one.kill()
    account.injected("node killed while it drains")
    await fleet.start("two")
    assert_nothing_lost(await account.settled())


async def test_frozen_past_the_heartbeat_its_late_answer_does_no_harm(
    fleet: Fleet, account: Account
) -> None:
    one = await fleet.start("one")
    job = await account.submit(paced(steps=LONG_STEPS))
    await fleet.begun(job)
    one.suspend()
    account.injected("node frozen past the heartbeat")
    await fleet.start("two")
    await account.result(job)
    one.cont()
    await until(lambda: fleet.generated(job, "finished") == 2, "the frozen node finishes, too")
    await one.logged("inbox.opened", times=2)
    after = await account.submit(paced("a dog"))
    await account.result(after)
    report = await account.settled()
    assert_nothing_lost(report)
    assert (fleet.generated(job), fleet.generated(after)) == (2, 1)


async def test_frozen_for_a_moment_nothing_is_done_twice(fleet: Fleet, account: Account) -> None:
    one = await fleet.start("one", heartbeat_seconds="12")
    job = await account.submit(paced(steps=LONG_STEPS))
    await fleet.begun(job)
    one.suspend()
    one.cont()
    account.healed("node frozen for a moment")
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 1}


async def test_an_event_loop_held_past_the_heartbeat_costs_no_second_generation(
    fleet: Fleet, account: Account
) -> None:
    one = await fleet.start("one")
    job = await account.submit(paced(steps=4, hold_loop_seconds=9.0))
    account.injected("event loop held for 9 s")
    await one.logged("connection.lost", role="consume")
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(job) == 1


async def test_a_request_that_kills_every_node_ends_in_the_dead_letter_queue(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    exhausted = FailureCode.ATTEMPTS_EXHAUSTED.value
    async with fleet.kept_alive("one", look_ahead="0"):
        poison = await account.submit(paced("poison", failure="abort"), ends=[exhausted])
        innocent = await account.submit(paced("a dog"))
        account.injected("poison request")
        report = await account.settled(90)
    assert_nothing_lost(report)
    assert fleet.generated(poison) == DELIVERY_LIMIT + 1
    assert fleet.generated(innocent) == 1
    aborted = [node for node in fleet.nodes if node.exit_code == -signal.SIGABRT]
    assert len(aborted) == DELIVERY_LIMIT + 1
    (dead,) = await broker.take(dead_queue(SERVICE))
    assert dead.properties.message_id == poison


async def test_each_of_four_jobs_goes_wrong_in_its_own_way(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    four = {"num_images_per_prompt": 4, "steps": 2}
    good = await account.submit(paced("good", **four))
    full = await account.submit(
        paced("no memory", **four, failure="out_of_memory", at_image=2, times=1)
    )
    bug = await account.submit(paced("a bug", **four, failure="bug", times=1))
    bad = await account.submit(
        paced("bad", **four, failure="generation"), ends=[FailureCode.GENERATION_FAILED.value]
    )
    report = await account.settled()
    assert_nothing_lost(report)
    assert [fleet.generated(job) for job in (good, full, bug, bad)] == [1, 2, 2, 1]
    (dead,) = await broker.take(dead_queue(SERVICE))
    assert dead.properties.message_id == bad
    assert dead.properties.headers[HEADER_DEAD_CODE] == "generation_failed"


async def test_of_three_nodes_one_dies_and_one_stops_and_every_job_is_done(
    fleet: Fleet, account: Account
) -> None:
    nodes = [await fleet.start(name) for name in ("one", "two", "three")]
    jobs = await account.submit_many(15, steps=15)
    await account.result(jobs[0])
    nodes[0].kill()
    nodes[1].stop()
    account.injected("one of three killed, one stopped")
    report = await account.settled()
    assert_nothing_lost(report)
    twice = [job for job in jobs if fleet.generated(job) > 1]
    assert len(twice) <= 1, "only the job that the killed node was at is done again"
