"""Images outside of messages: where they are kept, and when they go there."""

import base64
import hashlib
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from contracts.result import JobResult, Status
from node.egress.artifacts import FsspecArtifactStore, fit
from node.errors import InternalError, ResultTooLarge
from tests.unit.builders import image, with_images

DATA = b"the bytes of an image"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{uuid4().hex}" if request.param == "memory" else f"file://{tmp_path}/store/"


@pytest.fixture
def store(url: str) -> FsspecArtifactStore:
    return FsspecArtifactStore(url)


def read(uri: str) -> bytes:
    with fsspec.open(uri) as file:
        return file.read()


async def test_bytes_are_kept_under_their_content_address(store: FsspecArtifactStore) -> None:
    uri = await store.put(DATA, SHA256, "image/png")
    assert uri.endswith(f"/{SHA256[:2]}/{SHA256}.png")
    assert read(uri) == DATA


async def test_the_same_bytes_have_one_address_however_often_they_come(
    store: FsspecArtifactStore,
) -> None:
    uris = {await store.put(DATA, SHA256, "image/png") for _ in range(3)}
    assert len(uris) == 1
    assert read(uris.pop()) == DATA


async def test_half_a_file_left_by_a_crash_is_made_whole(
    store: FsspecArtifactStore, url: str
) -> None:
    uri = f"{url.rstrip('/')}/{SHA256[:2]}/{SHA256}.png"
    filesystem, path = fsspec.core.url_to_fs(uri)
    filesystem.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    filesystem.pipe_file(path, DATA[:5])
    assert read(await store.put(DATA, SHA256, "image/png")) == DATA


@pytest.mark.parametrize(
    ("media_type", "suffix"),
    [("image/jpeg", ".jpg"), ("image/webp", ".webp"), ("image/tiff", ".bin")],
)
async def test_the_name_ends_as_its_media_type_does(
    store: FsspecArtifactStore, media_type: str, suffix: str
) -> None:
    assert (await store.put(DATA, SHA256, media_type)).endswith(suffix)


async def test_a_small_result_stays_as_it_is(store: FsspecArtifactStore) -> None:
    result = with_images(image(DATA))
    assert await fit(result, store, 1000) is result
    assert await fit(result, None, 1000) is result


async def test_a_result_without_images_is_not_touched(store: FsspecArtifactStore) -> None:
    result = JobResult(job_id="job", status=Status.SUCCEEDED)
    assert await fit(result, store, 0) is result


async def test_a_caller_who_asks_for_references_gets_them(store: FsspecArtifactStore) -> None:
    fitted = await fit(with_images(image(DATA), image(b"2", 1), by_reference=True), store, 1000)
    assert fitted.warnings == []
    assert [each.b64_json for each in fitted.images] == [None, None]
    assert [read(each.uri) for each in fitted.images] == [DATA, b"2"]


async def test_a_result_too_large_for_a_message_goes_by_reference_with_a_warning(
    store: FsspecArtifactStore,
) -> None:
    result = with_images(image(DATA))
    size = len(base64.b64encode(DATA))
    assert (await fit(result, store, size)).images[0].uri is None
    fitted = await fit(result, store, size - 1)
    assert read(fitted.images[0].uri) == DATA
    assert "by reference" in fitted.warnings[0]


async def test_without_a_store_a_large_result_says_what_to_do() -> None:
    with pytest.raises(ResultTooLarge, match="NODE_ARTIFACT_STORE"):
        await fit(with_images(image(DATA)), None, 10)


async def test_without_a_store_nobody_can_ask_for_references() -> None:
    with pytest.raises(ResultTooLarge):
        await fit(with_images(image(DATA), by_reference=True), None, 1000)


async def test_a_store_that_fails_is_a_fault_of_ours_and_may_pass(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_bytes(b"")
    broken = FsspecArtifactStore(f"file://{in_the_way}/store")
    with pytest.raises(InternalError, match="artifact store failed"):
        await fit(with_images(image(DATA), by_reference=True), broken, 1000)
