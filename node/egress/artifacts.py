"""Results that fit into a message: images that do not go by reference."""

import asyncio
import base64

from contracts.result import JobResult
from contracts.text2image import GeneratedImage, ResponseKind, Text2ImageResult
from node.errors import InternalError, ResultTooLarge, StoreError
from node.ports import ArtifactStore


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
    except StoreError as error:
        raise InternalError(f"the images could not be kept for the caller: {error}") from error
    warnings = list(result.warnings)
    if not by_reference:
        warnings.append(
            f"the images take {size} bytes, more than a message carries: sent by reference"
        )
    return result.model_copy(update={"images": images, "warnings": warnings})


async def _stored(image: GeneratedImage, store: ArtifactStore) -> GeneratedImage:
    data = await asyncio.to_thread(base64.b64decode, image.b64_json or "")
    uri = await store.put(data, image.sha256, image.media_type)
    return image.model_copy(update={"b64_json": None, "uri": uri})
