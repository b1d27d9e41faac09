"""Image files outside of messages: an fsspec store, and results that fit into a message."""

import asyncio
import base64
from contextlib import suppress
from typing import Final

import fsspec

from contracts.result import JobResult
from contracts.text2image import GeneratedImage, ResponseKind, Text2ImageResult
from node.errors import InternalError, ResultTooLarge
from node.ports import ArtifactStore

EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


class FsspecArtifactStore:
    """Keeps files under their SHA-256 at any fsspec URL (`file://`, `memory://`, `s3://` …)."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def put(self, data: bytes, sha256: str, media_type: str) -> str:
        """Keep bytes and return their URI; the same bytes are kept once. Raises OSError."""
        return await asyncio.to_thread(self._put, data, sha256, media_type)

    def _put(self, data: bytes, sha256: str, media_type: str) -> str:
        uri = f"{self._url}/{sha256[:2]}/{sha256}.{EXTENSIONS.get(media_type, 'bin')}"
        filesystem, path = fsspec.core.url_to_fs(uri)
        filesystem.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        with suppress(FileNotFoundError):
            if filesystem.size(path) == len(data):
                return uri
        # Written aside first, so that no reader ever sees half a file.
        filesystem.pipe_file(f"{path}.part", data)
        filesystem.mv(f"{path}.part", path)
        return uri


async def fit(result: JobResult, store: ArtifactStore | None, max_inline_bytes: int) -> JobResult:
    """Move images to the store where the caller asked for it or the message would be too large.

    Raises ResultTooLarge where there is no store, InternalError where the store fails.
    """
    if not isinstance(result, Text2ImageResult) or not result.images:
        return result
    by_reference = (
        result.parameters is not None and result.parameters.response is ResponseKind.REFERENCE
    )
    size = sum(len(image.b64_json or "") for image in result.images)
    if not by_reference and size <= max_inline_bytes:
        return result
    if store is None:
        raise ResultTooLarge(
            f"the images take {size} bytes, a message carries {max_inline_bytes}; ask for fewer "
            "or smaller images or for jpeg, or let the operator set NODE_ARTIFACT_STORE"
        )
    try:
        images = [await _stored(image, store) for image in result.images]
    except OSError as error:
        raise InternalError(f"the artifact store failed: {error}") from error
    warnings = list(result.warnings)
    if not by_reference:
        warnings.append(
            f"the images take {size} bytes, more than a message carries: sent by reference"
        )
    return result.model_copy(update={"images": images, "warnings": warnings})


async def _stored(image: GeneratedImage, store: ArtifactStore) -> GeneratedImage:
    data = base64.b64decode(image.b64_json or "")
    uri = await store.put(data, image.sha256, image.media_type)
    return image.model_copy(update={"b64_json": None, "uri": uri})
