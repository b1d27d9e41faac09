"""The caller goes away, comes back, asks twice, or asks two nodes."""

import asyncio

import pytest

from contracts.topology import results_queue
from node.errors import Conflict
from tests.faults.harness.account import Account
from tests.faults.harness.broker import FaultyBroker
from tests.faults.harness.entry import ending
from tests.faults.harness.fleet import Fleet
from tests.faults.harness.paced import paced
from tests.faults.harness.report import assert_nothing_lost
from tests.faults.harness.waiting import until
from tests.harness import SERVICE


async def test_a_caller_who_is_back_in_time_gets_the_result_without_new_work(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    node = await fleet.start("one")
    async with Account.open([broker.url], fleet, "gone") as gone:
        await gone.submit(paced(steps=20), job_id="asked-before")
        await fleet.begun("asked-before")
    await node.logged("reply.unroutable", job_id="asked-before")
    assert await broker.depth(results_queue(SERVICE)) == 1, "the result is kept"
    account.injected("caller gone and back in time")
    await account.submit(paced(steps=20), job_id="asked-before")
    await account.result("asked-before")
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated("asked-before") == 1


async def test_a_caller_who_is_back_too_late_gets_equal_pictures_made_anew(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    node = await fleet.start("one", recent_results="1")
    async with Account.open([broker.url], fleet, "gone") as gone:
        await gone.submit(job_id="forgotten")
        await fleet.begun("forgotten")
    await node.logged("reply.unroutable", job_id="forgotten")
    assert len(await broker.take(results_queue(SERVICE))) == 1, "nobody fetched it"
    for job in await account.submit_many(3):
        await account.result(job)
    account.injected("caller gone and back too late")
    await account.submit(job_id="forgotten")
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated("forgotten") == 2


async def test_a_caller_without_a_reply_queue_finds_its_result_kept(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    await account.submit_raw(answered=False)
    await account.submit_raw(reply_to="a-queue-that-is-gone")
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.succeeded == 2


async def test_the_same_request_while_queued_running_and_finished_is_one_generation(
    fleet: Fleet, account: Account
) -> None:
    await fleet.start("one", look_ahead="4")
    first = await account.submit(paced(steps=50))
    await fleet.begun(first)
    request = paced("asked four times", steps=50)
    for _ in range(2):
        await account.submit_raw(request, job_id="same")
    await fleet.begun("same")
    await account.submit_raw(request, job_id="same")
    await account.copies("same", 3)
    await account.submit_raw(request, job_id="same")
    copies = await account.copies("same", 4)
    assert len({image.sha256 for result in copies for image in result.images}) == 1
    report = await account.settled()
    assert_nothing_lost(report)
    assert (report.second_copies, fleet.generated("same")) == (0, 1)


async def test_the_same_request_on_two_nodes_gives_every_asker_the_same_bytes(
    fleet: Fleet, account: Account
) -> None:
    await fleet.start("one", look_ahead="0")
    await fleet.start("two", look_ahead="0")
    request = paced("asked twice", steps=50)
    await account.submit_raw(request, job_id="same")
    await account.submit_raw(request, job_id="same")
    copies = await account.copies("same", 2)
    assert len({image.sha256 for result in copies for image in result.images}) == 1
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.second_copies == 0


async def test_two_callers_with_one_id_and_the_same_request_share_one_generation(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    request = paced("shared", steps=50)
    async with Account.open([broker.url], fleet, "the_other_of_two_callers_with_one_id") as other:
        await account.submit(request, job_id="shared")
        await other.submit(request, job_id="shared")
        mine, theirs = await asyncio.gather(account.result("shared"), other.result("shared"))
        assert mine.images == theirs.images
        assert_nothing_lost(await other.settled())
    assert_nothing_lost(await account.settled())
    assert fleet.generated("shared") == 1


async def test_one_id_for_two_different_requests_is_refused_and_the_first_is_done(
    broker: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    await account.submit(paced("first", steps=50), job_id="taken")
    await fleet.begun("taken")
    with pytest.raises(Conflict):
        await account.client.submit(paced("second"), job_id="taken")
    async with Account.open([broker.url], fleet, "another caller") as other:
        await other.submit(paced("second"), job_id="taken", ends=["conflict"])
        assert ending(await other.result("taken")) == "conflict"
    assert_nothing_lost(await account.settled())


async def test_a_caller_that_is_killed_asks_again_and_sees_its_result(
    fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    async with asyncio.timeout(20):
        first = await fleet.caller_process("a cat", "--job-id", "killed-caller", "--steps", "100")
        await fleet.begun("killed-caller")
        first.kill()
        await first.wait()
        second = await fleet.caller_process("a cat", "--job-id", "killed-caller", "--steps", "100")
        said, _ = await second.communicate()
    assert second.returncode == 0, said
    assert b'"succeeded"' in said
    assert fleet.generated("killed-caller") == 1


async def test_a_broken_message_of_a_known_id_does_not_touch_the_job(
    fleet: Fleet, account: Account
) -> None:
    await fleet.start("one")
    job = await account.submit(paced(steps=50), job_id="good")
    await fleet.begun(job)
    await account.caller.publish(b"{", message_id="good", answered=False)
    result = await account.result(job)
    assert ending(result) == "succeeded"
    await until(lambda: len(fleet.node("one").log("request.settled")) == 2, "both are settled")
