"""Results that fit into a message: images that do not go by reference."""

import asyncio
import base64
from typing import Final

from contracts.result import JobResult
from contracts.text2image import GeneratedImage, ResponseKind
from node.errors import GenerationFailed, InternalError, ResultTooLarge, StoreError
from node.ports import ArtifactStore

PICTURES: Final = ("images", "drafts")
"""Fields in which results carry images."""


async def fit(result: JobResult, store: ArtifactStore | None, max_inline_bytes: int) -> JobResult:
    """Move images to the store where the caller asked for it or the message would be too large.

    Raises ResultTooLarge where there is no store, InternalError where the store fails.
    """
    pictures = {name: images for name in PICTURES if (images := _images(result, name))}
    parameters = getattr(result, "parameters", None)
    by_reference = getattr(parameters, "response", None) is ResponseKind.REFERENCE
    size = sum(len(image.b64_json or "") for images in pictures.values() for image in images)
    if not pictures or (not by_reference and size <= max_inline_bytes):
        return result
    if store is None:
        raise ResultTooLarge(
            f"the images take {size} bytes, a message carries {max_inline_bytes}; ask for fewer "
            "or smaller images or for jpeg, or let the operator set NODE_ARTIFACT_STORE"
        )
    try:
        stored = {name: [await _stored(i, store) for i in each] for name, each in pictures.items()}
    except StoreError as error:
        raise InternalError(f"the images could not be kept for the caller: {error}") from error
    warnings = list(result.warnings)
    if not by_reference:
        warnings.append(
            f"the images take {size} bytes, more than a message carries: sent by reference"
        )
    return result.model_copy(update={**stored, "warnings": warnings})


def _images(result: JobResult, name: str) -> list[GeneratedImage]:
    """Find the images of a field; a service may call something else by its name."""
    found = getattr(result, name, None)
    is_ours = isinstance(found, list) and all(isinstance(each, GeneratedImage) for each in found)
    return found if is_ours and found else []


async def _stored(image: GeneratedImage, store: ArtifactStore) -> GeneratedImage:
    if image.uri is not None:
        return image
    try:
        data = await asyncio.to_thread(base64.b64decode, image.b64_json or "")
    except ValueError as error:
        raise GenerationFailed(f"image {image.index} is not base64: {error}") from error
    uri = await store.put(data, image.sha256, image.media_type)
    return image.model_copy(update={"b64_json": None, "uri": uri})
