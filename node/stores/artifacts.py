"""Image files under their SHA-256, at any fsspec URL, and how they are read again."""

import asyncio
import base64
import hashlib
import re
from typing import Final

from contracts.text2image import GeneratedImage
from node.errors import ArtifactCorrupt, ArtifactMissing, StoreUnavailable
from node.stores.objects import Objects

TIMEOUT_SECONDS: Final = 20.0
EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}

_SHARD: Final = re.compile(r"[0-9a-f]{2}")


class FsspecArtifactStore:
    """Keeps files at `<url>/<ab>/<sha256>.<extension>` (`file://`, `memory://`, `s3://` …)."""

    def __init__(self, url: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._objects = Objects(url, timeout_seconds)

    async def put(self, data: bytes, sha256: str, media_type: str) -> str:
        """Keep bytes and return their URI; the same bytes are kept once.

        They are written in any case: that makes a damaged object whole, and a good one young, so
        that no sweep deletes what was just asked for. Then they are read back.
        """
        if await _sha256(data) != sha256:
            raise ArtifactCorrupt(f"the bytes to keep are not those of SHA-256 {sha256}")
        name = f"{sha256[:2]}/{sha256}.{EXTENSIONS.get(media_type, 'bin')}"
        await self._objects.write(name, data)
        if await self._objects.read(name) != data:
            raise StoreUnavailable(
                f"the store {self._objects.label} does not give back what was written to {name}; "
                "check its health, its free space and its quota"
            )
        return await self._objects.uri(name)

    async def sweep(self, max_age_seconds: float) -> int:
        """Delete what was put longer ago and return how many files."""
        before = await self._objects.now() - max_age_seconds
        deleted = 0
        for shard in await self._objects.folders(""):
            if not _SHARD.fullmatch(shard):
                continue
            for name, modified in (await self._objects.modified(shard)).items():
                if modified < before:
                    deleted += await self._objects.remove_older(name, before)
        return deleted


async def read_artifact(
    uri: str, sha256: str, *, timeout_seconds: float = TIMEOUT_SECONDS
) -> bytes:
    """Read a file by its URI. Raises ArtifactMissing, ArtifactCorrupt, StoreUnavailable."""
    if "::" in uri:
        # fsspec would chain stores, and write caches to the disk: more than was asked for.
        raise ArtifactMissing(f"{uri} is not the place of one file")
    data = await Objects(uri, timeout_seconds).read("")
    if data is None:
        raise ArtifactMissing(f"{uri} is not there; is it past its retention?")
    if await _sha256(data) != sha256:
        raise ArtifactCorrupt(f"{uri} is damaged: its bytes are not those of SHA-256 {sha256}")
    return data


async def image_bytes(image: GeneratedImage, *, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes:
    """Read the file of an image, whether it came inline or by reference.

    Raises ArtifactMissing, ArtifactCorrupt, StoreUnavailable.
    """
    if image.b64_json is None:
        if image.uri is None:
            raise ArtifactMissing(f"image {image.index} came without bytes and without a URI")
        return await read_artifact(image.uri, image.sha256, timeout_seconds=timeout_seconds)
    data = await asyncio.to_thread(base64.b64decode, image.b64_json)
    if await _sha256(data) != image.sha256:
        raise ArtifactCorrupt(f"image {image.index} is damaged: its SHA-256 is not {image.sha256}")
    return data


async def _sha256(data: bytes) -> str:
    return await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
