"""Retention goes by the age of what was last written, and by nothing that was meant to stay."""

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from contracts.text2image import Text2ImageResult
from node.ports import ResultStore
from node.stores.artifacts import FsspecArtifactStore
from node.stores.objects import Objects
from node.stores.results import FsspecResultStore
from tests.unit.stores.builders import kept

HOUR = 3600.0


def result_store(folder: Path, owner: str = "first") -> ResultStore:
    return FsspecResultStore(f"file://{folder}", owner, Text2ImageResult)


def age(folder: Path, seconds: float) -> None:
    """Let all that is in a folder have been written so long ago."""
    then = time.time() - seconds
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (then, then))


def write(path: Path) -> None:
    path.write_bytes(b"not ours")


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


async def test_only_jobs_of_which_nothing_is_young_are_swept(tmp_path: Path) -> None:
    store = result_store(tmp_path)
    for job_id in ("old", "replayed", "claimed", "emptied"):
        await store.keep(kept(job_id))
    digest = hashlib.sha256(b"emptied").hexdigest()
    next((tmp_path / f"results/{digest[:2]}/{digest}").iterdir()).unlink()
    age(tmp_path, 2 * HOUR)
    await store.keep(kept("replayed", replay=1))
    await store.claim("claimed")
    await store.keep(kept("young"))
    assert await store.sweep(3 * HOUR) == 0
    assert await store.sweep(HOUR) == 2
    found = {name for name in ("old", "replayed", "claimed", "young") if await store.find(name)}
    assert found == {"replayed", "claimed", "young"}


async def test_a_job_that_comes_again_during_a_sweep_is_not_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = result_store(tmp_path), result_store(tmp_path, "other")
    await store.keep(kept("job"))
    age(tmp_path, 2 * HOUR)
    modified = Objects.modified
    came: list[bool] = []

    async def job_comes_after_the_listing(self: Objects, folder: str, **given: Any) -> Any:
        times = await modified(self, folder, **given)
        if not came:
            came.append(await other.claim("job"))
        return times

    monkeypatch.setattr(Objects, "modified", job_comes_after_the_listing)
    assert await store.sweep(HOUR) == 0
    assert came == [True]
    assert await store.find("job") == kept("job")


async def test_old_files_and_what_crashed_writers_left_are_swept(tmp_path: Path) -> None:
    store = FsspecArtifactStore(f"file://{tmp_path}")
    uris = [
        await store.put(data, hashlib.sha256(data).hexdigest(), "image/png")
        for data in (b"old", b"asked for again")
    ]
    write(Path(uris[0].removeprefix("file://") + ".1234.part"))
    write(tmp_path / "README")
    age(tmp_path, 2 * HOUR)
    again = b"asked for again"
    assert await store.put(again, hashlib.sha256(again).hexdigest(), "image/png") == uris[1]
    assert await store.sweep(HOUR) == 2
    assert files(tmp_path) == {tmp_path / "README", Path(uris[1].removeprefix("file://"))}
