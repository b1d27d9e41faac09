"""An image is the same file whether it came inline or by reference."""

from uuid import uuid4

import pytest

from node.client import Client
from node.errors import ArtifactCorrupt, ArtifactMissing
from node.stores.artifacts import FsspecArtifactStore, image_bytes, read_artifact
from tests.fakes import InMemoryBroker
from tests.unit.builders import image

DATA = b"the bytes of an image"
INLINE = image(DATA)


async def test_a_client_reads_images_wherever_they_are() -> None:
    client = Client(InMemoryBroker())
    store = FsspecArtifactStore(f"memory://{uuid4().hex}")
    uri = await store.put(DATA, INLINE.sha256, INLINE.media_type)
    by_reference = INLINE.model_copy(update={"b64_json": None, "uri": uri})
    assert await client.image_bytes(INLINE) == DATA
    assert await client.image_bytes(by_reference) == DATA


async def test_bytes_that_are_not_those_that_were_made_are_refused() -> None:
    other = INLINE.model_copy(update={"sha256": image(b"other").sha256})
    with pytest.raises(ArtifactCorrupt, match="image 0 is damaged"):
        await image_bytes(other)


async def test_an_image_without_bytes_and_uri_is_missing() -> None:
    with pytest.raises(ArtifactMissing, match="without bytes and without a URI"):
        await image_bytes(INLINE.model_copy(update={"b64_json": None}))


async def test_a_uri_that_chains_stores_is_not_followed() -> None:
    uri = f"simplecache::memory://{uuid4().hex}/x.png"
    with pytest.raises(ArtifactMissing, match="not the place of one file"):
        await read_artifact(uri, INLINE.sha256)
