"""Pictures that come in a request: read, checked, decoded."""

import asyncio
import base64
import binascii
import hashlib
import io
import re
from typing import Any, Final

from PIL import Image, UnidentifiedImageError

from contracts.picture import Picture
from contracts.text2image import GeneratedImage
from node.errors import ArtifactCorrupt, ArtifactMissing, InternalError, InvalidRequest, StoreError
from node.stores.artifacts import TIMEOUT_SECONDS, image_bytes
from node.stores.objects import Objects

MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
"""A text2image result fits, images inline; RabbitMQ 4 takes nothing larger."""
MAX_PICTURE_PIXELS: Final = 4096 * 4096
MEDIA_FORMATS: Final = ("PNG", "JPEG", "WEBP")

# As the artifact store names its files: no other path can be asked for.
_ARTIFACT: Final = re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}\.[a-z]{1,8}")


async def read_picture(picture: Picture, artifact_store: str | None) -> Image.Image:
    """Read and decode a picture as RGB; see `read_file`."""
    return await asyncio.to_thread(decoded, await read_file(picture, artifact_store))


async def read_file(picture: Picture, artifact_store: str | None) -> bytes:
    """Read the file of a picture. A reference must lie in this node's own artifact store.

    Raises InvalidRequest for what is no picture, InternalError where the store fails.
    """
    if isinstance(picture, str):
        return await asyncio.to_thread(_from_base64, picture)
    try:
        if picture.b64_json is None and not await _is_ours(picture, artifact_store):
            raise InvalidRequest(
                "image: the reference is not in this node's artifact store (NODE_ARTIFACT_STORE); "
                "send the bytes, or let the services share one store"
            )
        return await image_bytes(picture)
    except (ArtifactMissing, ArtifactCorrupt) as error:
        raise InvalidRequest(f"image: {error}") from error
    except ValueError as error:
        raise InvalidRequest(f"image: b64_json is not base64: {error}") from error
    except StoreError as error:
        raise InternalError(f"image: {error}") from error


def _from_base64(text: str) -> bytes:
    """Decode base64, as it is or in a data URL."""
    try:
        return base64.b64decode(text.partition("base64,")[2] or text, validate=True)
    except (binascii.Error, ValueError) as error:
        # ValueError: characters beyond ASCII.
        raise InvalidRequest(f"image: it is not base64: {error}") from error


async def _is_ours(picture: GeneratedImage, artifact_store: str | None) -> bool:
    if picture.uri is None or artifact_store is None:
        return False
    # The setting may spell the place differently: a path, or with a slash too few.
    folder = (await Objects(artifact_store, TIMEOUT_SECONDS).uri("")).rstrip("/") + "/"
    name = picture.uri.removeprefix(folder)
    return name != picture.uri and _ARTIFACT.fullmatch(name) is not None


def decoded(data: bytes) -> Image.Image:
    """Decode a file as RGB. Raises InvalidRequest."""
    try:
        with Image.open(io.BytesIO(data), formats=MEDIA_FORMATS) as image:
            if image.width * image.height > MAX_PICTURE_PIXELS:
                raise InvalidRequest(
                    f"image: {image.width}x{image.height} is too large, at most "
                    f"{MAX_PICTURE_PIXELS} pixels are read"
                )
            return _flat(image)
    except UnidentifiedImageError as error:
        raise InvalidRequest("image: it is no PNG, JPEG or WebP file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidRequest(f"image: it is too large: {error}") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InvalidRequest(f"image: the file is damaged: {error}") from error


def _flat(image: Image.Image) -> Image.Image:
    """Put what is transparent on white."""
    if image.mode.startswith("I"):
        # 16 bits a pixel: Pillow would take what is above 255 for white.
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("RGB")
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    layered = image.convert("RGBA")
    flat: Any = Image.new("RGB", layered.size, "white")
    flat.paste(layered, mask=layered.getchannel("A"))
    return flat  # type: ignore[no-any-return]


def as_png(picture: Image.Image, index: int = 0, seed: int = 0) -> GeneratedImage:
    """Encode a picture for a result."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    data = file.getvalue()
    return GeneratedImage(
        index=index,
        b64_json=base64.b64encode(data).decode(),
        media_type="image/png",
        width=picture.width,
        height=picture.height,
        seed=seed,
        sha256=hashlib.sha256(data).hexdigest(),
    )
