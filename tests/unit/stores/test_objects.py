"""A store that cannot do what was asked says so in a sentence that helps."""

import asyncio
import errno
import os
import resource
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from fsspec.registry import known_implementations

from node.errors import StoreUnavailable
from node.stores.objects import Objects

TIMEOUT_SECONDS = 20.0


@pytest.fixture
def files(tmp_path: Path) -> Objects:
    return Objects(f"file://{tmp_path}/store", TIMEOUT_SECONDS)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow past 64 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def no_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


async def test_an_object_is_replaced_as_a_whole(files: Objects, tmp_path: Path) -> None:
    await files.write("folder/name", b"first")
    with (tmp_path / "store/folder/name").open("rb") as reader:
        await files.write("folder/name", b"second, and longer")
        assert reader.read() == b"first"
    assert await files.read("folder/name") == b"second, and longer"
    assert await files.names("folder") == ["name"]


async def test_what_is_not_there_is_none_and_lists_nothing(files: Objects) -> None:
    assert await files.read("folder/name") is None
    assert await files.names("folder") == []
    assert await files.folders("") == []
    assert await files.modified("") == {}
    assert not await files.remove_older("folder/name", 1e12)
    assert not await files.remove_folder("folder")


async def test_only_what_is_old_is_removed(files: Objects, tmp_path: Path) -> None:
    await files.write("folder/name", b"")
    now = await files.now()
    assert not await files.remove_older("folder/name", now - 60)
    os.utime(tmp_path / "store/folder/name", (now - 61, now - 61))
    assert (await files.modified("folder"))["folder/name"] == pytest.approx(now - 61)
    assert await files.remove_older("folder/name", now - 60)
    assert await files.names("folder") == []


@pytest.mark.parametrize("place", ["{}/images", "file://{}/images", "file://{}/images/"])
async def test_a_uri_names_the_place_for_every_process(place: str, tmp_path: Path) -> None:
    objects = Objects(place.format(tmp_path), TIMEOUT_SECONDS)
    assert await objects.uri("ab/cd.png") == f"file://{tmp_path}/images/ab/cd.png"


async def test_a_full_disk_is_told_and_leaves_nothing_behind(
    files: Objects, full_disk: None
) -> None:
    await files.write("folder/small", b"small")
    with pytest.raises(StoreUnavailable, match=r"store failed: OSError.*too large"):
        await files.write("folder/large", b"x" * 100_000)
    with pytest.raises(StoreUnavailable, match="too large"):
        await files.create("folder/large", b"x" * 100_000)
    assert await files.names("folder") == ["small"]


async def test_a_file_where_a_folder_should_be_is_told(files: Objects) -> None:
    await files.write("in_the_way", b"")
    for call in (files.write("in_the_way/name", b""), files.create("in_the_way/name", b"")):
        with pytest.raises(StoreUnavailable, match="in_the_way"):
            await call


async def test_a_disk_without_hard_links_cannot_be_shared_and_the_error_says_what_can(
    files: Objects, no_hard_links: None
) -> None:
    await files.write("folder/name", b"files may be written")
    with pytest.raises(StoreUnavailable, match=r"no hard links; results need .* S3"):
        await files.create("folder/claim", b"")
    assert await files.names("folder") == ["name"]


class PlainFileSystem(fsspec.AbstractFileSystem):
    """A kind of storage that can only write."""

    protocol = "plain"


async def test_a_kind_of_store_that_cannot_create_once_is_refused() -> None:
    fsspec.register_implementation("plain", PlainFileSystem, clobber=True)
    with pytest.raises(StoreUnavailable, match="plain://place cannot be shared: results need"):
        await Objects("plain://place", TIMEOUT_SECONDS).create("name", b"")


async def test_an_unknown_kind_of_store_is_named() -> None:
    with pytest.raises(StoreUnavailable, match=r"nothing://here.*nothing"):
        await Objects("nothing://here", TIMEOUT_SECONDS).read("name")


async def test_a_missing_package_is_named_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {"class": "missing_package.FileSystem", "err": "Install missing_package"}
    monkeypatch.setitem(known_implementations, "missing", known)
    with pytest.raises(StoreUnavailable, match=r"Install missing_package; .* pip install"):
        await Objects("missing://here", TIMEOUT_SECONDS).read("name")


async def test_passwords_do_not_travel_in_errors() -> None:
    with pytest.raises(StoreUnavailable) as error:
        await Objects("nothing://user:secret@here/x", TIMEOUT_SECONDS).read("name")
    assert "secret" not in str(error.value)
    assert "nothing://here/x" in str(error.value)


@pytest.fixture
def slow_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others come between a look whether something is there and what is done then."""
    exists = fsspec.AbstractFileSystem.exists

    def look(self: fsspec.AbstractFileSystem, path: str, **given: Any) -> bool:
        found = exists(self, path, **given)
        time.sleep(0.01)
        return found

    monkeypatch.setattr(fsspec.AbstractFileSystem, "exists", look)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_of_many_threads_that_create_an_object_one_does(
    kind: str, tmp_path: Path, slow_look: None
) -> None:
    url = f"memory://{uuid4().hex}" if kind == "memory" else f"file://{tmp_path}"
    at_once = threading.Barrier(4)

    def create(name: str, node: str) -> bool:
        at_once.wait(TIMEOUT_SECONDS)
        return asyncio.run(Objects(url, TIMEOUT_SECONDS).create(name, node.encode()))

    nodes = [f"node {n}" for n in range(4)]
    with ThreadPoolExecutor(len(nodes)) as pool:
        for n in range(20):
            won = list(pool.map(partial(create, f"name-{n}"), nodes))
            assert sum(won) == 1
            data = asyncio.run(Objects(url, TIMEOUT_SECONDS).read(f"name-{n}"))
            assert data == nodes[won.index(True)].encode()
