"""What a person sees of a job, and gets on the disk."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from contracts.text2image import GeneratedImage, Text2ImageResult
from node import progress
from node.progress import write_images
from node.stores.artifacts import FsspecArtifactStore
from tests.unit.builders import image, with_images

FIRST, SECOND = b"the first picture", b"the second picture"


def stored(each: GeneratedImage, data: bytes, folder: Path) -> GeneratedImage:
    """Put an image into a store, as a node does."""
    store = FsspecArtifactStore(f"file://{folder}")
    uri = asyncio.run(store.put(data, each.sha256, each.media_type))
    return each.model_copy(update={"b64_json": None, "uri": uri})


@pytest.fixture
def by_reference(tmp_path: Path) -> Text2ImageResult:
    """One image inline, one in a store."""
    second = stored(image(SECOND, 1), SECOND, tmp_path / "store")
    return with_images(image(FIRST), second)


def test_images_are_written_whether_they_came_inline_or_by_reference(
    by_reference: Text2ImageResult, tmp_path: Path
) -> None:
    out = tmp_path / "pictures" / "cat.png"
    lines = write_images(by_reference.job_id, by_reference.images, out)
    assert lines == [str(tmp_path / f"pictures/cat-{n}.png") for n in (0, 1)]
    assert [Path(line).read_bytes() for line in lines] == [FIRST, SECOND]


def test_one_image_gets_the_name_that_was_asked_for(tmp_path: Path) -> None:
    assert write_images("job", [image(FIRST)], tmp_path / "cat.png") == [str(tmp_path / "cat.png")]


def test_a_folder_takes_images_named_after_their_job(tmp_path: Path) -> None:
    result = with_images(image(FIRST)).model_copy(update={"job_id": "a/b"})
    assert write_images(result.job_id, result.images, tmp_path) == [str(tmp_path / "a_b.png")]


@pytest.mark.parametrize(
    "media_type", ["image/x/../../../elsewhere", "image/../elsewhere", "/etc/x", "", "image/PNG\n"]
)
def test_no_media_type_leads_out_of_the_folder(tmp_path: Path, media_type: str) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    hostile = image(FIRST).model_copy(update={"media_type": media_type})
    assert write_images("job", [hostile], folder) == [str(folder / "job.bin")]
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [folder / "job.bin"]


def test_an_image_past_its_retention_is_told_with_its_uri_and_the_others_are_written(
    by_reference: Text2ImageResult, tmp_path: Path
) -> None:
    uri = by_reference.images[1].uri
    Path(uri.removeprefix("file://")).unlink()
    written, missing = write_images(by_reference.job_id, by_reference.images, tmp_path)
    assert Path(written).read_bytes() == FIRST
    assert missing.startswith(f"{uri} (not written: ")
    assert "past its retention?" in missing


def test_a_damaged_image_is_not_written(by_reference: Text2ImageResult, tmp_path: Path) -> None:
    Path(by_reference.images[1].uri.removeprefix("file://")).write_bytes(FIRST)
    other = image(FIRST).model_copy(update={"sha256": image(SECOND).sha256})
    result = with_images(other, by_reference.images[1])
    assert all(
        "is damaged" in line
        for line in write_images(result.job_id, result.images, tmp_path / "out.png")
    )
    assert not list(tmp_path.glob("out*"))


class SilentClient:
    """A client whose job lies in a queue that nobody reads."""

    async def events(self, job_id: str) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield

    async def cancel(self, job_id: str) -> None:
        raise AssertionError("nobody asked for it")


async def test_a_job_that_nobody_takes_is_explained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SILENCE_SECONDS", 0.01)
    console = Console(file=io.StringIO(), width=100)
    client: Any = SilentClient()
    with pytest.raises(TimeoutError):
        await progress.watched(client, "job", 0.3, console, lambda: ["nobody [is] there"])
    assert console.file.getvalue().count("queued nobody [is] there") == 1
