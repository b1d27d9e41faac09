"""Pictures in requests: what is one is read, anything else is refused in words."""

import base64
import hashlib
import io
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from contracts.text2image import GeneratedImage
from node.errors import InternalError, InvalidRequest
from node.stores.artifacts import FsspecArtifactStore
from orchestrator_example.services.pictures import as_png, read_picture

RED = (255, 0, 0)


def file_of(image: Image.Image, file_format: str = "PNG", **given: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **given)
    return buffer.getvalue()


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def result_image(data: bytes, **given: Any) -> GeneratedImage:
    values: dict[str, Any] = {
        "index": 0,
        "media_type": "image/png",
        "width": 8,
        "height": 8,
        "seed": 0,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return GeneratedImage(**values | given)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and has next to no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )


NOISE = Image.frombytes("L", (64, 64), random.Random(0).randbytes(64 * 64))
NOISES = [file_of(NOISE, name) for name in ("PNG", "JPEG", "WEBP")]
RED_PNG = file_of(Image.new("RGB", (8, 8), RED))


async def refusal(picture: str | GeneratedImage, store: str | None = None) -> str:
    with pytest.raises(InvalidRequest) as refused:
        await read_picture(picture, store)
    return refused.value.detail


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
async def test_a_file_in_base64_is_read(file_format: str) -> None:
    data = file_of(Image.new("RGB", (8, 6), RED), file_format, quality=95)
    image = await read_picture(encoded(data), None)
    assert (image.mode, image.size) == ("RGB", (8, 6))
    red, green, blue = image.getpixel((3, 3))
    assert red > 240
    assert max(green, blue) < 15


async def test_a_data_url_is_read() -> None:
    image = await read_picture(f"data:image/png;base64,{encoded(RED_PNG)}", None)
    assert image.getpixel((0, 0)) == RED


async def test_an_image_of_a_result_is_read_from_its_bytes() -> None:
    image = await read_picture(result_image(RED_PNG, b64_json=encoded(RED_PNG)), None)
    assert image.getpixel((0, 0)) == RED


async def test_a_picture_that_was_made_is_read_from_its_result() -> None:
    made = as_png(Image.new("RGB", (8, 6), RED), index=2, seed=7)
    assert (made.index, made.seed, made.width, made.height) == (2, 7, 8, 6)
    assert (await read_picture(made, None)).getpixel((0, 0)) == RED


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
async def test_what_is_transparent_becomes_white(mode: str) -> None:
    if mode in ("RGBA", "LA"):
        data = file_of(Image.new(mode, (8, 8), (0,) * len(mode)))
    else:
        colour: Any = (0, 0, 0) if mode == "RGB" else 0
        data = file_of(Image.new(mode, (8, 8), colour), transparency=colour)
    assert (await read_picture(encoded(data), None)).getpixel((4, 4)) == (255, 255, 255)


async def test_what_is_half_transparent_is_half_white() -> None:
    data = file_of(Image.new("RGBA", (8, 8), (0, 0, 0, 128)))
    assert (await read_picture(encoded(data), None)).getpixel((4, 4)) == (127, 127, 127)


async def test_grey_of_16_bits_keeps_its_brightness() -> None:
    data = file_of(Image.frombytes("I;16", (1, 3), struct.pack("<3H", 0, 0x8000, 0xFFFF)))
    image = await read_picture(encoded(data), None)
    assert [image.getpixel((0, y))[0] for y in range(3)] == [0, 128, 255]


@pytest.mark.parametrize("text", ["", "not base64!", "https://example.com/a.png", "Ä", "AAA"])
async def test_text_that_is_no_picture_is_refused(text: str) -> None:
    assert (await refusal(text)).startswith("image: it is no")


async def test_a_result_whose_bytes_are_no_base64_is_refused() -> None:
    for text in ("AAA", "Ä"):
        assert "b64_json is not base64" in await refusal(result_image(RED_PNG, b64_json=text))


async def test_a_result_whose_bytes_are_others_is_refused() -> None:
    picture = result_image(RED_PNG, b64_json=encoded(b"other"))
    assert "damaged: its SHA-256 is not" in await refusal(picture)


@pytest.mark.parametrize("data", [b"GIF89a" + bytes(20), b"%PDF-1.4", bytes(100), b"\x89PNG\r\n"])
async def test_bytes_of_another_kind_are_refused(data: bytes) -> None:
    assert await refusal(encoded(data)) == "image: it is no PNG, JPEG or WebP file"


async def test_a_gif_is_refused() -> None:
    data = file_of(Image.new("RGB", (8, 8)), "GIF")
    assert await refusal(encoded(data)) == "image: it is no PNG, JPEG or WebP file"


async def test_a_file_that_ends_too_early_is_refused() -> None:
    for whole in NOISES:
        assert "the file is damaged" in await refusal(encoded(whole[: len(whole) // 2]))


@pytest.mark.parametrize(
    ("width", "height"), [(4097, 4096), (10_000, 10_000), (30_000, 30_000), (2**31 - 1, 1)]
)
async def test_a_bomb_is_refused_before_it_is_decoded(width: int, height: int) -> None:
    assert "too large" in await refusal(encoded(png_header(width, height)))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
async def test_damaged_files_are_read_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(NOISES)))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    kept = damaged[: data.draw(st.integers(0, len(damaged)))]
    try:
        image = await read_picture(encoded(bytes(kept)), None)
    except InvalidRequest:
        return
    assert image.mode == "RGB"


@pytest.mark.parametrize("spelling", ["file://{}", "file://{}/", "{}", "local://{}"])
async def test_a_reference_into_the_own_store_is_read(tmp_path: Path, spelling: str) -> None:
    store = spelling.format(tmp_path)
    picture = await _kept(store)
    assert (await read_picture(picture, store)).getpixel((0, 0)) == RED


async def _kept(store: str) -> GeneratedImage:
    digest = hashlib.sha256(RED_PNG).hexdigest()
    uri = await FsspecArtifactStore(store).put(RED_PNG, digest, "image/png")
    return result_image(RED_PNG, uri=uri)


def _forget(picture: GeneratedImage) -> None:
    Path(str(picture.uri).removeprefix("file://")).unlink()


async def test_a_reference_elsewhere_is_refused_unread(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    picture = await _kept(f"file://{other}")
    for store in (None, f"file://{mine}", f"file://{tmp_path}/oth"):
        assert "not in this node's artifact store" in await refusal(picture, store)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "ab/../../secret.png",
        "secret.png",
        "ab/" + "0" * 64 + ".png::http://example.com/x",
        "",
    ],
)
async def test_a_reference_to_no_artifact_is_refused_unread(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(RED_PNG)
    store = tmp_path / "store"
    (store / "ab").mkdir(parents=True)
    (store / "secret.png").write_bytes(RED_PNG)
    picture = result_image(RED_PNG, uri=f"file://{store}/{name}")
    assert "not in this node's artifact store" in await refusal(picture, f"file://{store}")


async def test_a_result_without_bytes_and_reference_is_refused(tmp_path: Path) -> None:
    assert "not in this node's" in await refusal(result_image(RED_PNG), f"file://{tmp_path}")


async def test_a_reference_past_its_retention_is_refused(tmp_path: Path) -> None:
    picture = await _kept(f"file://{tmp_path}")
    _forget(picture)
    assert "past its retention" in await refusal(picture, f"file://{tmp_path}")


async def test_a_store_that_cannot_be_opened_may_work_later() -> None:
    uri = f"nosuch://host/ab/{hashlib.sha256(RED_PNG).hexdigest()}.png"
    with pytest.raises(InternalError, match="image: the store"):
        await read_picture(result_image(RED_PNG, uri=uri), "nosuch://host")
