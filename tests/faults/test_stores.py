"""Nodes share a store of results; it fails, lies, or one of its nodes dies."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.failure import FailureCode
from contracts.text2image import GeneratedImage, ResponseKind
from contracts.topology import results_queue
from node.errors import ArtifactCorrupt, ArtifactMissing
from tests.faults.harness.account import Account
from tests.faults.harness.broker import FaultyBroker
from tests.faults.harness.fleet import Fleet
from tests.faults.harness.paced import paced
from tests.faults.harness.proxy import ACK, Proxy
from tests.faults.harness.report import assert_nothing_lost
from tests.faults.harness.stores import replace_by_a_file
from tests.faults.harness.waiting import until
from tests.harness import SERVICE

LIMIT_BYTES = 500_000
"""More than a node logs in a scenario."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder that all nodes of a fleet write to."""
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def broken_store(tmp_path: Path) -> Path:
    """A store that fails whatever is asked of it: its parent is no folder."""
    (tmp_path / "file").write_text("in the way")
    return tmp_path / "file" / "store"


def _damage(store: Path) -> None:
    for file in store.rglob("result-*"):
        file.write_bytes(file.read_bytes()[:-20])


def _empty(store: Path) -> None:
    shutil.rmtree(store)
    store.mkdir()


def _file(image: GeneratedImage) -> Path:
    return Path(str(image.uri).removeprefix("file://"))


def _cut_short(image: GeneratedImage) -> None:
    _file(image).write_bytes(_file(image).read_bytes()[:-20])


async def test_with_a_shared_store_two_copies_on_two_nodes_are_one_generation(
    fleet: Fleet, account: Account, store: Path
) -> None:
    for name in ("one", "two"):
        await fleet.start(name, look_ahead="0", result_store=f"file://{store}")
    request = paced("asked twice", steps=50)
    for _ in range(4):
        await account.submit_raw(request, job_id="same")
    await account.copies("same", 4)
    report = await account.settled()
    assert_nothing_lost(report)
    assert (fleet.generated("same"), report.second_copies) == (1, 0)


async def test_with_a_shared_store_a_node_killed_before_its_ack_costs_no_second_generation(
    fleet: Fleet, account: Account, bad_link: Proxy, store: Path
) -> None:
    one = await fleet.start("one", urls=[bad_link.url], result_store=f"file://{store}")
    bad_link.half_open("to_broker", role="consume", at=ACK)
    job = await account.submit(paced(steps=5))
    await account.result(job)
    one.kill()
    bad_link.restore()
    account.injected("node killed before its ack, with a shared store")
    await fleet.start("two", result_store=f"file://{store}")
    await account.copies(job, 2)
    report = await account.settled()
    assert_nothing_lost(report)
    assert (fleet.generated(job), report.second_copies) == (1, 1)


async def test_the_claim_of_a_killed_node_ends_and_another_does_the_job(
    fleet: Fleet, account: Account, store: Path
) -> None:
    one = await fleet.start("one", result_store=f"file://{store}")
    job = await account.submit(paced(steps=50))
    await fleet.begun(job)
    one.kill()
    account.injected("node killed with a claim in the shared store")
    two = await fleet.start("two", result_store=f"file://{store}")
    await two.logged("request.held_elsewhere", job_id=job)
    report = await account.settled(60)
    assert_nothing_lost(report)
    assert fleet.generated(job) == 2


@pytest.mark.parametrize("lie", [_damage, _empty])
async def test_a_result_that_the_store_damaged_or_lost_is_made_anew(
    broker: FaultyBroker,
    fleet: Fleet,
    account: Account,
    store: Path,
    lie: Callable[[Path], None],
) -> None:
    one = await fleet.start("one", result_store=f"file://{store}")
    async with Account.open([broker.url], fleet, "gone") as gone:
        await gone.submit(job_id="lied-about")
        await gone.result("lied-about")
    one.stop()
    assert await one.ended() == 0
    lie(store)
    await fleet.start("two", result_store=f"file://{store}")
    account.injected("shared store that lies")
    await account.submit(job_id="lied-about")
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated("lied-about") == 2


async def test_without_its_shared_store_a_fleet_goes_on(
    fleet: Fleet, account: Account, broken_store: Path
) -> None:
    for name in ("one", "two"):
        await fleet.start(name, result_store=f"file://{broken_store}")
    account.injected("shared store away")
    jobs = await account.submit_many(6)
    report = await account.settled()
    assert_nothing_lost(report)
    assert [fleet.generated(job) for job in jobs] == [1] * 6


async def test_a_shared_store_that_goes_away_under_running_jobs_costs_nothing(
    fleet: Fleet, account: Account, store: Path
) -> None:
    await fleet.start("one", result_store=f"file://{store}")
    jobs = await account.submit_many(3, steps=50)
    await fleet.begun(jobs[0])
    replace_by_a_file(store)
    account.injected("shared store gone under running jobs")
    report = await account.settled()
    assert_nothing_lost(report)
    assert [fleet.generated(job) for job in jobs] == [1] * 3


async def test_a_caller_who_is_back_after_the_node_was_replaced_finds_its_result_in_the_store(
    broker: FaultyBroker, fleet: Fleet, account: Account, store: Path
) -> None:
    one = await fleet.start("one", result_store=f"file://{store}")
    async with Account.open([broker.url], fleet, "gone") as gone:
        await gone.submit(job_id="kept")
        await fleet.begun("kept")
    await one.logged("reply.unroutable", job_id="kept")
    one.kill()
    await broker.take(results_queue(SERVICE))
    await fleet.start("two", result_store=f"file://{store}")
    account.injected("caller back after its node was replaced")
    await account.submit(job_id="kept")
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated("kept") == 1


async def test_pictures_by_reference_survive_the_death_of_their_node(
    fleet: Fleet, account: Account, store: Path
) -> None:
    one = await fleet.start("one", artifact_store=f"file://{store}")
    job = await account.submit(paced(response=ResponseKind.REFERENCE))
    (image,) = (await account.result(job)).images
    one.kill()
    assert image.uri is not None
    assert image.b64_json is None
    assert await account.client.image_bytes(image)
    assert_nothing_lost(await account.settled())


async def test_without_its_artifact_store_a_node_says_so_and_does_what_needs_none(
    fleet: Fleet, account: Account, broken_store: Path
) -> None:
    node = await fleet.start("one", artifact_store=f"file://{broken_store}")
    refused = await account.submit(
        paced(response=ResponseKind.REFERENCE),
        ends=[FailureCode.INTERNAL.value],
        deadline_seconds=4.0,
    )
    await account.submit(paced("a dog"))
    account.injected("artifact store away")
    report = await account.settled()
    assert_nothing_lost(report)
    error = (await account.result(refused)).error
    assert error is not None
    assert "could not be kept" in error.detail
    assert node.exit_code is None


async def test_an_artifact_store_that_comes_back_serves_the_next_attempt(
    fleet: Fleet, account: Account, broken_store: Path
) -> None:
    node = await fleet.start("one", artifact_store=f"file://{broken_store}")
    job = await account.submit(paced(response=ResponseKind.REFERENCE))
    await node.logged("request.sent_on", job_id=job)
    broken_store.parent.unlink()
    account.healed("artifact store away")
    report = await account.settled()
    assert_nothing_lost(report)
    await until(lambda: fleet.generated(job) == 2, "the next attempt")


async def test_a_full_artifact_store_is_filled_once_there_is_room(
    fleet: Fleet, account: Account, store: Path
) -> None:
    node = await fleet.start("one", artifact_store=f"file://{store}")
    node.limit_files(LIMIT_BYTES)
    big = paced(response=ResponseKind.REFERENCE, padding_bytes=3 * LIMIT_BYTES)
    job = await account.submit(big)
    await node.logged("request.sent_on", job_id=job)
    node.limit_files(None)
    account.healed("artifact store full")
    report = await account.settled()
    assert_nothing_lost(report)
    assert fleet.generated(job) == 2


async def test_a_file_that_the_artifact_store_lost_or_damaged_is_a_clear_error(
    fleet: Fleet, account: Account, store: Path
) -> None:
    await fleet.start("one", artifact_store=f"file://{store}")
    images = []
    for seed in range(2):
        job = await account.submit(paced(seed=seed, response=ResponseKind.REFERENCE))
        images += (await account.result(job)).images
    assert_nothing_lost(await account.settled())
    _cut_short(images[0])
    with pytest.raises(ArtifactCorrupt, match="SHA-256"):
        await account.client.image_bytes(images[0])
    _file(images[1]).unlink()
    with pytest.raises(ArtifactMissing):
        await account.client.image_bytes(images[1])
