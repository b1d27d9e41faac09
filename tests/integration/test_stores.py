"""Stores on a real file system and an S3 server, while processes die and servers misbehave."""

import asyncio
import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from structlog.testing import capture_logs

from contracts.text2image import Text2ImageResult
from node.errors import StoreUnavailable
from node.stores.artifacts import FsspecArtifactStore, read_artifact
from node.stores.results import FsspecResultStore
from node.tasks import running
from tests.harness import until
from tests.s3_server import BUCKET, CARELESS_BUCKET, CREDENTIALS, TERSE_BUCKET, s3_server
from tests.unit.stores.builders import kept, kept_by

LEASE_SECONDS = 1.5
PATIENCE_SECONDS = 30.0
DATA = b"the bytes of an image"
SHA256 = hashlib.sha256(DATA).hexdigest()


def result_store(url: str, owner: str = "observer", timeout_seconds: float = 20.0) -> Any:
    return FsspecResultStore(
        url, owner, Text2ImageResult, lease_seconds=LEASE_SECONDS, timeout_seconds=timeout_seconds
    )


class Claimant:
    """A node in a process of its own that works on the job `job`."""

    def __init__(self, url: str, owner: str, log: Path) -> None:
        self._log = log
        command = [sys.executable, "-m", "tests.claimant", url, owner, str(LEASE_SECONDS)]
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=stderr)

    async def logged(self, event: str) -> dict[str, Any]:
        """Wait until the node logs an event."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for line in self._log.read_text().splitlines():
                    with suppress(ValueError):
                        entry = json.loads(line)
                        if entry["event"] == event:
                            return dict(entry)
                await asyncio.sleep(0.02)


async def claimed(store: Any, job_id: str = "job") -> float:
    """Ask for a job until it is given; returns the seconds that it took."""
    began_at = time.monotonic()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await store.claim(job_id):  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.05)
    return time.monotonic() - began_at


@pytest.fixture
async def claimant(tmp_path: Path) -> AsyncIterator[Claimant]:
    """A node that has the job."""
    with ExitStack() as stack:
        node = Claimant(f"file://{tmp_path}/store", "claimant", tmp_path / "log")
        stack.enter_context(node.process)
        stack.callback(node.process.kill)
        assert (await node.logged("job.claimed"))["claimed"]
        yield node


async def test_a_living_node_keeps_its_job_and_a_killed_one_loses_it_after_the_lease(
    claimant: Claimant, tmp_path: Path
) -> None:
    store = result_store(f"file://{tmp_path}/store")
    await not_claimed_for(2 * LEASE_SECONDS, store)
    claimant.process.kill()
    assert await claimed(store) < 3 * LEASE_SECONDS


async def test_a_node_that_was_stopped_past_its_lease_learns_that_it_lost_the_job(
    claimant: Claimant, tmp_path: Path
) -> None:
    store = result_store(f"file://{tmp_path}/store")
    claimant.process.send_signal(signal.SIGSTOP)
    assert await claimed(store) >= LEASE_SECONDS
    claimant.process.send_signal(signal.SIGCONT)
    assert (await claimant.logged("claim.lost"))["epoch"] == 1
    assert not await result_store(f"file://{tmp_path}/store", "third").claim("job")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


Configure = Callable[[str], None]


@pytest.fixture
def s3_at(monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Point fsspec to an S3 server."""

    def configure(endpoint: str) -> None:
        settings = {"endpoint_url": endpoint, **CREDENTIALS}
        monkeypatch.setitem(fsspec.config.conf, "s3", settings)

    return configure


async def test_a_server_that_overwrites_what_is_to_be_created_once_is_refused(
    endpoint: str, s3_at: Configure
) -> None:
    s3_at(endpoint)
    store = result_store(f"s3://{CARELESS_BUCKET}/{uuid4().hex}")
    for call in (store.claim, lambda job_id: store.keep(kept(job_id))):
        with pytest.raises(StoreUnavailable, match="cannot be shared: it ignores If-None-Match"):
            await call("job")


async def test_a_server_that_refuses_in_few_words_is_understood(
    endpoint: str, s3_at: Configure
) -> None:
    s3_at(endpoint)
    url = f"s3://{TERSE_BUCKET}/{uuid4().hex}"
    first, second = result_store(url, "first"), result_store(url, "second")
    assert await first.claim("job")
    assert not await second.claim("job")
    await first.keep(kept(by="first"))
    assert kept_by(await second.keep(kept(by="second"))) == "first"


async def test_a_bucket_that_does_not_exist_is_told(endpoint: str, s3_at: Configure) -> None:
    s3_at(endpoint)
    store = FsspecArtifactStore("s3://nobody-made-it/images")
    with pytest.raises(StoreUnavailable, match=r"(?i)nobody-made-it.*bucket"):
        await store.put(DATA, SHA256, "image/png")


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def nobody_there() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


async def test_a_server_that_never_answers_holds_nobody_up(
    silent_server: str, s3_at: Configure
) -> None:
    s3_at(silent_server)
    store = result_store(f"s3://{BUCKET}/{uuid4().hex}", timeout_seconds=0.5)
    calls = [
        store.find("job"),
        store.keep(kept()),
        store.claim("job"),
        store.sweep(60.0),
        FsspecArtifactStore(f"s3://{BUCKET}", timeout_seconds=0.5).put(DATA, SHA256, "image/png"),
        read_artifact(f"s3://{BUCKET}/ab/cd.png", SHA256, timeout_seconds=0.5),
    ]
    began_at = time.monotonic()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert time.monotonic() - began_at < 10.0
    for end in ends:
        assert isinstance(end, StoreUnavailable), end
        assert "no answer within 0.5 s" in str(end)


async def test_a_server_that_is_not_there_is_told(nobody_there: str, s3_at: Configure) -> None:
    s3_at(nobody_there)
    with pytest.raises(StoreUnavailable, match=f"s3://{BUCKET}"):
        await result_store(f"s3://{BUCKET}/{uuid4().hex}", timeout_seconds=2.0).find("job")


class LyingFileSystem(fsspec.implementations.memory.MemoryFileSystem):
    """Says that it kept everything, and loses the last byte."""

    protocol = "lying"
    cachable = False

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **given: Any) -> None:
        super().pipe_file(path, value[:-1], mode, **given)


async def test_a_store_that_does_not_keep_what_it_was_given_is_found_out() -> None:
    fsspec.register_implementation("lying", LyingFileSystem, clobber=True)
    store = FsspecArtifactStore("lying://place")
    with pytest.raises(StoreUnavailable, match="does not give back what was written"):
        await store.put(DATA, SHA256, "image/png")


async def test_claims_are_renewed_again_after_the_store_was_away(tmp_path: Path) -> None:
    folder, away = tmp_path / "store", tmp_path / "away"
    first, second = result_store(f"file://{folder}", "first"), result_store(f"file://{folder}")
    await first.claim("job")
    async with running(first=first.run()):
        with capture_logs() as logs:
            folder.rename(away)
            folder.write_text("not a folder: every call fails")
            await until(lambda: logs, "a beat that failed")
        folder.unlink()
        away.rename(folder)
        await not_claimed_for(2 * LEASE_SECONDS, second)
    assert [line["event"] for line in logs] == ["claim.not_renewed"]


async def not_claimed_for(seconds: float, store: Any) -> None:
    """Ask for the job again and again: another node has it all the time."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        assert not await store.claim("job")
        await asyncio.sleep(0.1)
