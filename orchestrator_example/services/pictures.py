"""Pictures that come in a request: read, checked, decoded."""

import asyncio
import base64
import binascii
import io
from typing import Annotated, Any, Final

from PIL import Image
from pydantic import Field

from contracts.text2image import GeneratedImage
from node.errors import ArtifactCorrupt, ArtifactMissing, InternalError, InvalidRequest, StoreError
from node.stores.artifacts import image_bytes

MAX_PICTURE_PIXELS: Final = 4096 * 4096
MEDIA_FORMATS: Final = ("PNG", "JPEG", "WEBP")

Picture = Annotated[
    str | GeneratedImage,
    Field(description="A picture: the file in base64, or an image of another service's result."),
]


async def read_picture(picture: str | GeneratedImage, artifact_store: str | None) -> Image.Image:
    """Read and decode a picture as RGB. A reference must lie in this node's own artifact store.

    Raises InvalidRequest for what is no picture, InternalError where the store fails.
    """
    data = await _read(picture, artifact_store)
    return await asyncio.to_thread(_decoded, data)


async def _read(picture: str | GeneratedImage, artifact_store: str | None) -> bytes:
    if isinstance(picture, str):
        try:
            return base64.b64decode(picture.partition("base64,")[2] or picture, validate=True)
        except binascii.Error as error:
            raise InvalidRequest(f"image: it is not base64: {error}") from error
    if picture.b64_json is None and not _is_ours(picture.uri, artifact_store):
        raise InvalidRequest(
            "image: the reference is not in this node's artifact store (NODE_ARTIFACT_STORE); "
            "send the bytes, or let the services share one store"
        )
    try:
        return await image_bytes(picture)
    except (ArtifactMissing, ArtifactCorrupt, binascii.Error) as error:
        raise InvalidRequest(f"image: {error}") from error
    except StoreError as error:
        raise InternalError(f"image: {error}") from error


def _is_ours(uri: str | None, artifact_store: str | None) -> bool:
    return (
        uri is not None
        and artifact_store is not None
        and ".." not in uri
        and uri.startswith(artifact_store.rstrip("/") + "/")
    )


def _decoded(data: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=MEDIA_FORMATS) as image:
            if image.width * image.height > MAX_PICTURE_PIXELS:
                raise InvalidRequest(
                    f"image: {image.width}x{image.height} is too large, at most "
                    f"{MAX_PICTURE_PIXELS} pixels are read"
                )
            return _flat(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidRequest(f"image: it is no PNG, JPEG or WebP file: {error}") from error


def _flat(image: Image.Image) -> Image.Image:
    """Put what is transparent on white."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    layered = image.convert("RGBA")
    flat: Any = Image.new("RGB", layered.size, "white")
    flat.paste(layered, mask=layered.getchannel("A"))
    return flat  # type: ignore[no-any-return]
