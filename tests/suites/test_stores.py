"""What nodes share behaves the same in memory, in files and on S3."""

import asyncio
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any
from uuid import uuid4

import fsspec
import pytest

from contracts.text2image import Text2ImageResult
from node.errors import ArtifactCorrupt, ArtifactMissing, Disposition
from node.ports import ResultStore
from node.stores.artifacts import FsspecArtifactStore, read_artifact
from node.stores.recent import RecentResults
from node.stores.results import FsspecResultStore
from node.tasks import running
from tests.fakes import ManualClock
from tests.race import race
from tests.s3_server import BUCKET, CREDENTIALS, environment, s3_server
from tests.unit.builders import failed, image, with_images
from tests.unit.stores.builders import kept, kept_by

DATA = b"the bytes of an image"
SHA256 = hashlib.sha256(DATA).hexdigest()
LEASE_SECONDS = 10.0
RACE_SECONDS = 120.0

Store = Callable[..., ResultStore]


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setitem(fsspec.config.conf, "s3", {"endpoint_url": endpoint, **CREDENTIALS})
        yield endpoint


PLACES = ["memory", "file", "s3"]


def place(kind: str, request: pytest.FixtureRequest) -> str:
    """Make up a place that is shared, and empty."""
    if kind == "file":
        return f"file://{request.getfixturevalue('tmp_path')}/store/"
    if kind == "memory":
        return f"memory://{uuid4().hex}"
    request.getfixturevalue("s3_endpoint")
    return f"s3://{BUCKET}/{uuid4().hex}"


@pytest.fixture(params=PLACES)
def url(request: pytest.FixtureRequest) -> str:
    """Where the stores of a test are."""
    return place(request.param, request)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def open_store(url: str, clock: ManualClock, owner: str = "first", **given: Any) -> ResultStore:
    values = {"lease_seconds": LEASE_SECONDS, "monotonic": clock.monotonic} | given
    return FsspecResultStore(url, owner, Text2ImageResult, timeout_seconds=30.0, **values)


@pytest.fixture
def store(url: str, clock: ManualClock) -> Store:
    """Open the shared store as one of the nodes."""
    return partial(open_store, url, clock)


@pytest.fixture(params=["recent", *PLACES])
def results(request: pytest.FixtureRequest, clock: ManualClock) -> ResultStore:
    """Any store of results."""
    if request.param == "recent":
        return RecentResults(100, 10**9, window_seconds=3600.0, clock=clock)
    return open_store(place(request.param, request), clock)


class Folder:
    """What lies in the store, seen past the stores' own code."""

    def __init__(self, url: str) -> None:
        self.filesystem, self.path = fsspec.core.url_to_fs(url, use_listings_cache=False)

    def files(self, part_of_name: str = "") -> list[str]:
        return [name for name in self.filesystem.find(self.path) if part_of_name in name]

    def damage(self, part_of_name: str) -> None:
        """Leave half of the only object of this name."""
        (path,) = self.files(part_of_name)
        data = self.filesystem.cat_file(path)
        self.filesystem.pipe_file(path, data[: len(data) // 2])


@pytest.fixture
def folder(url: str) -> Folder:
    return Folder(url)


async def test_a_job_that_nobody_finished_is_not_found(results: ResultStore) -> None:
    assert await results.find("job") is None


@pytest.mark.parametrize("job_id", ["job", "a/../b", "~", "uuid:0/1?x#y", "x" * 128])
async def test_a_result_comes_back_as_it_was_kept(results: ResultStore, job_id: str) -> None:
    mine = kept(job_id, fingerprint="of the request")
    assert await results.keep(mine) == mine
    found = await results.find(job_id)
    assert found == mine
    assert found.outcome.result.to_json() == mine.outcome.result.to_json()
    assert await results.find(f"{job_id}2") is None


async def test_images_and_failures_come_back_whole(results: ResultStore) -> None:
    picture = with_images(image(DATA))
    outcome = failed("bad", disposition=Disposition.DEAD_LETTER)
    await results.keep(kept("job", outcome=type(outcome)(picture)))
    await results.keep(kept("bad", outcome=outcome))
    assert (await results.find("job")).outcome.result == picture
    assert (await results.find("bad")).outcome == outcome


async def test_the_first_result_of_a_job_stands(results: ResultStore) -> None:
    await results.keep(kept(by="first"))
    assert kept_by(await results.keep(kept(by="second"))) == "first"
    assert kept_by(await results.find("job")) == "first"


async def test_the_result_of_a_replay_takes_the_place_of_the_earlier_one(
    results: ResultStore,
) -> None:
    await results.keep(kept(by="first"))
    assert kept_by(await results.keep(kept(by="replayed", replay=1))) == "replayed"
    assert kept_by(await results.keep(kept(by="late", replay=0))) == "replayed"
    assert kept_by(await results.keep(kept(by="tenth", replay=10))) == "tenth"
    assert kept_by(await results.keep(kept(by="ninth", replay=9))) == "tenth"
    assert (await results.find("job")).replay == 10


async def test_a_node_may_claim_what_it_has(results: ResultStore) -> None:
    assert await results.claim("job")
    assert await results.claim("job")
    await results.release("job")
    assert await results.claim("job")


async def test_old_results_are_swept_and_young_ones_stay(results: ResultStore) -> None:
    await results.keep(kept("a"))
    await results.keep(kept("b"))
    assert await results.sweep(3600.0) == 0
    assert await results.find("a") is not None
    assert await results.sweep(-5.0) == 2
    assert await results.find("a") is None
    assert await results.sweep(-5.0) == 0
    assert kept_by(await results.keep(kept("a", by="again"))) == "again"


async def test_every_node_finds_what_one_of_them_kept(store: Store) -> None:
    mine = await store("first").keep(kept())
    assert await store("second").find("job") == mine


async def test_a_damaged_result_is_taken_for_none_and_kept_anew(
    store: Store, folder: Folder
) -> None:
    await store().keep(kept(by="first"))
    folder.damage("result-")
    assert await store().find("job") is None
    assert kept_by(await store().keep(kept(by="again"))) == "again"
    assert kept_by(await store().keep(kept(by="late"))) == "again"
    assert kept_by(await store("second").find("job")) == "again"


async def test_a_damaged_replay_leaves_the_result_before_it(store: Store, folder: Folder) -> None:
    await store().keep(kept(by="first"))
    await store().keep(kept(by="replayed", replay=1))
    folder.damage("result-1")
    assert kept_by(await store().find("job")) == "first"
    assert kept_by(await store().keep(kept(by="again", replay=1))) == "again"


async def test_a_result_of_another_release_is_taken_for_none(store: Store, folder: Folder) -> None:
    await store().keep(kept())
    (path,) = folder.files("result-")
    head, body = folder.filesystem.cat_file(path).split(b"\n")
    body = body.replace(b'"warnings"', b'"new_field"')
    whole = {**json.loads(head), "sha256": hashlib.sha256(body).hexdigest()}
    folder.filesystem.pipe_file(path, json.dumps(whole).encode() + b"\n" + body)
    assert await store().find("job") is None


async def test_one_node_has_the_claim_and_no_other(store: Store) -> None:
    first, second = store("first"), store("second")
    assert await first.claim("job")
    assert not await second.claim("job")
    assert not await second.claim("job")
    assert await second.claim("another job")


async def test_a_released_job_may_be_claimed_at_once(store: Store) -> None:
    first, second = store("first"), store("second")
    await first.claim("job")
    await first.release("job")
    assert await second.claim("job")
    assert not await first.claim("job")


async def test_a_job_that_a_node_released_and_took_again_is_not_free(store: Store) -> None:
    first, second = store("first"), store("second")
    for _ in range(2):
        assert await first.claim("job")
        assert not await second.claim("job")
        await first.release("job")
    assert await first.claim("job")
    assert not await second.claim("job")


async def test_a_node_releases_only_what_it_has(store: Store) -> None:
    first, second = store("first"), store("second")
    await first.claim("job")
    await second.release("job")
    assert not await second.claim("job")


async def test_a_node_that_is_not_heard_of_for_the_lease_loses_its_claim(
    store: Store, clock: ManualClock
) -> None:
    first, second, third = store("first"), store("second"), store("third")
    await first.claim("job")
    assert not await second.claim("job")
    clock.now += LEASE_SECONDS - 0.1
    assert not await second.claim("job")
    assert not await third.claim("job")
    clock.now += 0.1
    assert await second.claim("job")
    assert not await third.claim("job"), "it saw the second node's claim just now"
    assert not await first.claim("job")


async def test_of_many_nodes_that_find_a_silent_claim_one_takes_it(
    store: Store, clock: ManualClock
) -> None:
    await store("first").claim("job")
    others = [store(f"other-{n}") for n in range(6)]
    for _ in range(2):
        assert sum(await asyncio.gather(*(other.claim("job") for other in others))) == 0
    clock.now += LEASE_SECONDS
    assert sum(await asyncio.gather(*(other.claim("job") for other in others))) == 1


async def test_a_restarted_node_has_what_it_claimed_before(store: Store) -> None:
    await store("first").claim("job")
    again = store("first")
    assert await again.claim("job")
    await again.release("job")
    assert await store("second").claim("job")


async def test_a_node_that_lives_keeps_its_claim(
    store: Store, clock: ManualClock, folder: Folder
) -> None:
    first, second = store("first", lease_seconds=0.3), store("second")
    await first.claim("job")
    async with running(first=first.run()):
        for _ in range(3):
            assert not await second.claim("job")
            clock.now += LEASE_SECONDS
            await beaten(folder)
            assert not await second.claim("job")


async def test_a_node_that_lost_its_claim_stops_renewing_it(
    store: Store, clock: ManualClock, folder: Folder
) -> None:
    first, second = store("first", lease_seconds=0.3), store("second", lease_seconds=0.3)
    await first.claim("job")
    await first.claim("other job")
    await second.claim("job")
    clock.now += 1.0
    assert await second.claim("job")
    (lost,) = (name for name in folder.files("claim-1") if taken_over(folder, name))
    before = folder.filesystem.cat_file(lost)
    async with running(first=first.run()):
        for _ in range(3):
            await beaten(folder, but=lost)
    assert folder.filesystem.cat_file(lost) == before
    await first.release("job")
    assert not await store("third").claim("job"), "the second node still has it"


async def beaten(folder: Folder, but: str = "") -> None:
    """Wait for the next beat of the claim that beats."""
    (path,) = (
        name for name in folder.files("claim-1") if name != but and not taken_over(folder, name)
    )
    before = folder.filesystem.cat_file(path)
    async with asyncio.timeout(20):
        while folder.filesystem.cat_file(path) == before:  # noqa: ASYNC110 - a file, no event
            await asyncio.sleep(0.02)


def taken_over(folder: Folder, claim: str) -> bool:
    return claim.replace("claim-1", "claim-2") in folder.files("claim-2")


async def test_a_damaged_claim_is_nobodys(store: Store, folder: Folder) -> None:
    await store("first").claim("job")
    folder.damage("claim-1")
    assert await store("second").claim("job")
    assert not await store("first").claim("job")


async def test_a_job_that_is_worked_on_is_not_swept(store: Store, folder: Folder) -> None:
    first = store("first")
    await first.claim("job")
    assert await store("second").sweep(60.0) == 0
    assert len(folder.files("claim-1")) == 1
    assert await store("second").sweep(-5.0) == 1
    assert folder.files() == []
    await first.release("job")


async def test_nothing_but_whole_objects_is_left_behind(store: Store, folder: Folder) -> None:
    for node in (store("first"), store("second")):
        assert await node.claim("job")
        await node.keep(kept())
        await node.release("job")
    names = sorted(path.rsplit("/", 1)[-1] for path in folder.files())
    assert names == ["claim-1", "claim-2", "result-0.0"]


async def test_of_many_nodes_one_gets_each_job_and_all_tell_the_same_result(url: str) -> None:
    nodes, jobs = 4, 12
    got = await asyncio.to_thread(raced, url, nodes, jobs)
    ids = [f"job-{n}" for n in range(jobs)]
    assert sorted(job_id for each in got for job_id in each["claimed"]) == sorted(ids)
    for job_id in ids:
        assert len({each["standing"][job_id] for each in got}) == 1
    uris = {uri for each in got for uri in each["uris"]}
    assert len(uris) == 1
    assert Folder(url).files(".part") == []


def raced(url: str, nodes: int, jobs: int) -> list[dict[str, Any]]:
    """Let nodes go for the same jobs at once: processes, or threads where memory is shared."""
    owners = [f"node-{n}" for n in range(nodes)]
    if url.startswith("memory"):
        with ThreadPoolExecutor(nodes) as pool:
            return list(pool.map(lambda owner: asyncio.run(race(url, owner, jobs)), owners))
    settings = fsspec.config.conf.get("s3", {})
    given = environment(settings["endpoint_url"]) if url.startswith("s3") else None
    with ExitStack() as stack:
        processes = []
        for owner in owners:
            command = [sys.executable, "-m", "tests.race", url, owner, str(jobs)]
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=given)
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate(timeout=RACE_SECONDS)[0]) for process in processes]


@pytest.fixture
def artifacts(url: str) -> FsspecArtifactStore:
    return FsspecArtifactStore(url)


async def test_bytes_are_kept_under_their_content_address(artifacts: FsspecArtifactStore) -> None:
    uri = await artifacts.put(DATA, SHA256, "image/png")
    assert uri.endswith(f"/{SHA256[:2]}/{SHA256}.png")
    assert await read_artifact(uri, SHA256) == DATA


@pytest.mark.parametrize(
    ("media_type", "suffix"),
    [("image/jpeg", ".jpg"), ("image/webp", ".webp"), ("image/tiff", ".bin")],
)
async def test_the_name_ends_as_its_media_type_does(
    artifacts: FsspecArtifactStore, media_type: str, suffix: str
) -> None:
    assert (await artifacts.put(DATA, SHA256, media_type)).endswith(suffix)


async def test_the_same_bytes_have_one_place_however_often_they_come(
    artifacts: FsspecArtifactStore, folder: Folder
) -> None:
    puts = [artifacts.put(DATA, SHA256, "image/png") for _ in range(10)]
    assert len(set(await asyncio.gather(*puts))) == 1
    assert len(folder.files()) == 1


async def test_half_a_file_left_by_a_crash_is_made_whole(
    artifacts: FsspecArtifactStore, folder: Folder
) -> None:
    uri = await artifacts.put(DATA, SHA256, "image/png")
    folder.damage(SHA256)
    with pytest.raises(ArtifactCorrupt, match="damaged"):
        await read_artifact(uri, SHA256)
    assert await artifacts.put(DATA, SHA256, "image/png") == uri
    assert await read_artifact(uri, SHA256) == DATA


async def test_a_file_past_its_retention_is_missing_and_the_error_says_so(
    artifacts: FsspecArtifactStore, folder: Folder
) -> None:
    uri = await artifacts.put(DATA, SHA256, "image/png")
    assert await artifacts.sweep(3600.0) == 0
    assert await artifacts.sweep(-5.0) == 1
    with pytest.raises(ArtifactMissing, match="retention") as missing:
        await read_artifact(uri, SHA256)
    assert uri in str(missing.value)
    assert folder.files() == []


async def test_what_is_asked_for_again_is_young_again(
    artifacts: FsspecArtifactStore, folder: Folder
) -> None:
    await artifacts.put(DATA, SHA256, "image/png")
    (path,) = folder.files()
    before = folder.filesystem.modified(path)
    # Stores tell the time in steps of up to a second.
    async with asyncio.timeout(20):
        while folder.filesystem.modified(path) <= before:
            await artifacts.put(DATA, SHA256, "image/png")


async def test_bytes_that_are_not_what_they_are_said_to_be_are_refused(
    artifacts: FsspecArtifactStore, folder: Folder
) -> None:
    with pytest.raises(ArtifactCorrupt):
        await artifacts.put(b"other bytes", SHA256, "image/png")
    assert folder.files() == []


async def test_sweeps_of_files_and_of_results_leave_each_other_alone(
    artifacts: FsspecArtifactStore, store: Store
) -> None:
    uri = await artifacts.put(DATA, SHA256, "image/png")
    await store().keep(kept())
    assert await store().sweep(-5.0) == 1
    assert await read_artifact(uri, SHA256) == DATA
    await store().keep(kept())
    assert await artifacts.sweep(-5.0) == 1
    assert await store().find("job") is not None
