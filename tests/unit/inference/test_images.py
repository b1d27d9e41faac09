"""Pixels to files and back, with the generation data inside."""

import hashlib
import io
import json
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from contracts.text2image import EffectiveParameters, OutputFormat
from node.errors import GenerationFailed
from node.inference.embedded import (
    XMP_MAX_BYTES,
    generation_json,
    generation_text,
    xmp_packet,
)
from node.inference.images import encode, encode_preview, to_uint8

SIZES = [(1, 1), (1, 7), (7, 1), (3, 5), (64, 64), (33, 129)]
TEXTS = {
    "plain": "a horse\nSteps: 3",
    "latin-1": "ein grünes Pferd",
    "any": "a 馬 🐎 of “glass”",
    "markup": "a <b>&amp; ]]> horse",
    "control": "a\x01b\x0bc",
    "empty": "",
}


def noise(height: int, width: int) -> np.ndarray:
    generator = np.random.default_rng(height * 1000 + width)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def effective(**fields: Any) -> EffectiveParameters:
    values = {
        "prompt": "a horse",
        "model": "tiny",
        "width": 64,
        "height": 32,
        "num_inference_steps": 3,
        "guidance_scale": 7.5,
        "scheduler": "PNDMScheduler",
        "seed": [7, 8],
    }
    return EffectiveParameters(**values | fields)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_png_keeps_every_pixel(height: int, width: int) -> None:
    pixels = noise(height, width)
    image = opened(encode(pixels, OutputFormat.PNG, None, "text", "{}"))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (width, height))
    np.testing.assert_array_equal(np.asarray(image), pixels)


def test_png_takes_pixels_that_are_not_contiguous() -> None:
    pixels = noise(16, 16)[::2, ::-1]
    image = opened(encode(pixels, OutputFormat.PNG, None, "", ""))
    np.testing.assert_array_equal(np.asarray(image), pixels)


def test_png_refuses_what_has_no_three_channels() -> None:
    with pytest.raises(ValueError, match="3 channels"):
        encode(np.zeros((4, 4, 4), np.uint8), OutputFormat.PNG, None, "", "")


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("output_format", [OutputFormat.JPEG, OutputFormat.WEBP])
def test_jpeg_and_webp_keep_the_size(output_format: OutputFormat, height: int, width: int) -> None:
    image = opened(encode(noise(height, width), output_format, None, "text", "{}"))
    assert image.format == output_format.upper()
    assert (image.mode, image.size) == ("RGB", (width, height))


@pytest.mark.parametrize("output_format", [OutputFormat.JPEG, OutputFormat.WEBP])
def test_quality_counts_and_is_90_when_not_named(output_format: OutputFormat) -> None:
    pixels = noise(64, 64)
    low, high, usual, ninety = (
        encode(pixels, output_format, quality, "", "") for quality in (1, 100, None, 90)
    )
    assert len(low) < len(high)
    assert usual == ninety


@pytest.mark.parametrize("output_format", OutputFormat)
def test_the_same_pixels_give_the_same_bytes(output_format: OutputFormat) -> None:
    first, again, other = (
        hashlib.sha256(encode(noise(33, height), output_format, None, "text", "{}")).hexdigest()
        for height in (47, 47, 48)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_pillow_reads_the_generation_data_of_a_png(text: str) -> None:
    data = json.dumps({"prompt": text})
    image = opened(encode(noise(8, 8), OutputFormat.PNG, None, text, data))
    assert image.info["parameters"] == text
    assert json.loads(image.info["generation"]) == {"prompt": text}


def test_nul_does_not_break_a_png() -> None:
    image = opened(encode(noise(8, 8), OutputFormat.PNG, None, "a\0b", "{}"))
    assert image.info["parameters"] == "ab"


@pytest.mark.parametrize("output_format", [OutputFormat.JPEG, OutputFormat.WEBP])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_pillow_reads_the_generation_data_of_jpeg_and_webp(
    output_format: OutputFormat, text: str
) -> None:
    data = json.dumps({"prompt": text})
    image = opened(encode(noise(8, 8), output_format, None, text, data))
    root = ElementTree.fromstring(image.info["xmp"])
    found = {element.tag.rpartition("}")[2]: element.text or "" for element in root.iter()}
    assert json.loads(found["json"]) == {"prompt": text}
    assert found["parameters"] == "".join(c for c in text if c == "\n" or c >= " ")


def test_a_prompt_too_long_for_a_jpeg_segment_still_makes_a_file() -> None:
    text = "馬" * 4000
    huge = json.dumps({"prompt": text * 5})
    for packet in (xmp_packet(text, huge), xmp_packet(text, text * 20)):
        assert len(packet) <= XMP_MAX_BYTES
    image = opened(encode(noise(8, 8), OutputFormat.JPEG, None, text, huge))
    assert image.size == (8, 8)


def test_the_longest_prompts_of_the_contract_fit_into_every_format() -> None:
    worst = effective(prompt="🐎" * 4000, negative_prompt="🐎" * 4000)
    text, data = generation_text(worst, 7), generation_json(worst, None, 7)
    for output_format in OutputFormat:
        assert opened(encode(noise(8, 8), output_format, None, text, data)).size == (8, 8)


def test_a_preview_is_a_jpeg() -> None:
    image = opened(encode_preview(noise(16, 24)))
    assert (image.format, image.size) == ("JPEG", (24, 16))


def test_values_from_0_to_1_are_rounded_to_bytes() -> None:
    values = np.array([[[0.0, 1.0, 0.5], [1 / 255, 1.49 / 255, 1.51 / 255]]], np.float32)
    assert to_uint8(values).tolist() == [[[0, 255, 128], [1, 1, 2]]]
    assert to_uint8(values).dtype == np.uint8


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_no_picture(value: float) -> None:
    values = np.zeros((2, 2, 3), np.float32)
    values[1, 1, 1] = value
    with pytest.raises(GenerationFailed, match="NODE_DTYPE=float32") as raised:
        to_uint8(values)
    assert "\n" not in raised.value.detail


def test_the_json_says_what_a_request_must_say() -> None:
    data = generation_json(effective(negative_prompt="blurry"), "main", 8)
    assert data.isascii()
    assert json.loads(data) == {
        "prompt": "a horse",
        "negative_prompt": "blurry",
        "model": "tiny",
        "width": 64,
        "height": 32,
        "num_inference_steps": 3,
        "guidance_scale": 7.5,
        "scheduler": "PNDMScheduler",
        "revision": "main",
        "seed": 8,
    }


def test_the_text_is_in_the_style_that_galleries_read() -> None:
    loras = [{"name": "noise", "scale": 0.5}]
    assert generation_text(effective(negative_prompt="blurry", loras=loras), 8) == (
        "a horse\n"
        "Negative prompt: blurry\n"
        "Steps: 3, Sampler: PNDMScheduler, CFG scale: 7.5, Seed: 8, Size: 64x32, Model: tiny, "
        "LoRAs: noise:0.5"
    )


def test_the_data_does_not_depend_on_the_other_images() -> None:
    alone, together = effective(seed=[8]), effective(seed=[7, 8], num_images_per_prompt=2)
    assert generation_json(alone, None, 8) == generation_json(together, None, 8)
    assert generation_text(alone, 8) == generation_text(together, 8)
