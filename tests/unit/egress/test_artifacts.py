"""Images go by reference when the caller wants that, or a message cannot carry them."""

import base64
from typing import Any

import pytest

from contracts.result import AnyResult, JobResult, Status
from node.egress.artifacts import fit
from node.errors import (
    ArtifactCorrupt,
    GenerationFailed,
    InternalError,
    ResultTooLarge,
    StoreUnavailable,
)
from tests.unit.builders import image, with_images

DATA = b"the bytes of an image"


class InMemoryArtifacts:
    """An artifact store in a dict; `fault` is raised instead of keeping anything."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.fault: Exception | None = None

    async def put(self, data: bytes, sha256: str, media_type: str) -> str:
        if self.fault is not None:
            raise self.fault
        uri = f"dict:{sha256}.{media_type}"
        self.kept[uri] = data
        return uri

    async def sweep(self, max_age_seconds: float) -> int:
        raise NotImplementedError


@pytest.fixture
def store() -> InMemoryArtifacts:
    return InMemoryArtifacts()


async def test_a_small_result_stays_as_it_is(store: InMemoryArtifacts) -> None:
    result = with_images(image(DATA))
    assert await fit(result, store, 1000) is result
    assert await fit(result, None, 1000) is result


async def test_a_result_without_images_is_not_touched(store: InMemoryArtifacts) -> None:
    result = JobResult(job_id="job", status=Status.SUCCEEDED)
    assert await fit(result, store, 0) is result


async def test_a_caller_who_asks_for_references_gets_them(store: InMemoryArtifacts) -> None:
    fitted = await fit(with_images(image(DATA), image(b"2", 1), by_reference=True), store, 1000)
    assert fitted.warnings == []
    assert [each.b64_json for each in fitted.images] == [None, None]
    assert [store.kept[each.uri] for each in fitted.images] == [DATA, b"2"]


async def test_a_result_too_large_for_a_message_goes_by_reference_with_a_warning(
    store: InMemoryArtifacts,
) -> None:
    result = with_images(image(DATA))
    size = len(base64.b64encode(DATA))
    assert (await fit(result, store, size)).images[0].uri is None
    fitted = await fit(result, store, size - 1)
    assert store.kept[fitted.images[0].uri] == DATA
    assert "by reference" in fitted.warnings[0]


async def test_without_a_store_a_large_result_says_what_to_do() -> None:
    with pytest.raises(ResultTooLarge, match="NODE_ARTIFACT_STORE"):
        await fit(with_images(image(DATA)), None, 10)


async def test_without_a_store_nobody_can_ask_for_references() -> None:
    with pytest.raises(ResultTooLarge):
        await fit(with_images(image(DATA), by_reference=True), None, 1000)


@pytest.mark.parametrize("fault", [StoreUnavailable("it is full"), ArtifactCorrupt("it is full")])
async def test_a_store_that_fails_is_a_fault_of_ours_and_may_pass(
    store: InMemoryArtifacts, fault: Exception
) -> None:
    store.fault = fault
    with pytest.raises(InternalError, match="could not be kept for the caller: it is full"):
        await fit(with_images(image(DATA), by_reference=True), store, 1000)


async def test_an_image_that_is_not_base64_is_the_fault_of_its_component(
    store: InMemoryArtifacts,
) -> None:
    spoiled = image(DATA).model_copy(update={"b64_json": "ä"})
    with pytest.raises(GenerationFailed, match="image 0 is not base64"):
        await fit(with_images(spoiled, by_reference=True), store, 1000)


@pytest.mark.parametrize("images", [None, 5, "a.png", ["a.png"], [{"b64_json": "x"}], {"0": 1}, []])
async def test_what_a_service_calls_images_and_is_something_else_is_left_alone(
    store: InMemoryArtifacts, images: Any
) -> None:
    result = AnyResult.model_validate({"job_id": "j", "status": "succeeded", "images": images})
    assert await fit(result, store, 0) is result
    assert store.kept == {}
