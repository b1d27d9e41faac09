"""image2image on the wire: text2image, a picture, and how much of it is made anew."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from contracts import examples
from contracts.image2image import (
    OPEA_REQUEST,
    Image2ImageParameters,
    Image2ImageRequest,
    Image2ImageResult,
)
from contracts.text2image import EffectiveParameters, GeneratedImage, Text2ImageRequest

PICTURE = "iVBORw0KGgo="
SCHEMA = Image2ImageRequest.model_json_schema()


def asked(**fields: Any) -> Image2ImageRequest:
    return Image2ImageRequest.model_validate({"prompt": "a horse", "image": PICTURE} | fields)


def test_a_body_of_opea_is_valid_as_it_is() -> None:
    request = Image2ImageRequest.model_validate(OPEA_REQUEST)
    assert (request.image, request.num_images_per_prompt) == (PICTURE, 1)
    assert request.strength is None


def test_every_field_and_alias_of_text2image_is_one_here() -> None:
    assert set(Text2ImageRequest.model_fields) < set(Image2ImageRequest.model_fields)
    request = asked(n=2, steps=5, cfg_scale=3.5, size="128x64", seed=-1)
    assert (request.num_images_per_prompt, request.num_inference_steps) == (2, 5)
    assert (request.guidance_scale, request.width, request.height) == (3.5, 128, 64)
    assert request.seed is None


def test_an_image_of_another_service_is_a_picture() -> None:
    request = asked(image=examples.IMAGE)
    assert request.image == GeneratedImage(**examples.IMAGE)


@pytest.mark.parametrize("image", ["https://example.org/a.png", "s3://bucket/a.png", "file:///a"])
def test_an_address_is_not_a_picture(image: str) -> None:
    with pytest.raises(ValidationError, match="addresses are not fetched: send the file itself"):
        asked(image=image)


@pytest.mark.parametrize("image", [None, 7, [], {}, {"index": 0}])
def test_what_is_no_picture_is_refused(image: Any) -> None:
    with pytest.raises(ValidationError):
        asked(image=image)


@pytest.mark.parametrize("strength", [0, -0.1, 1.01, "0.5", True, float("nan")])
def test_a_strength_is_above_0_and_at_most_1(strength: Any) -> None:
    with pytest.raises(ValidationError, match="strength"):
        asked(strength=strength)


@pytest.mark.parametrize("strength", [0.01, 1, 1.0, None])
def test_a_strength_within_is_taken(strength: Any) -> None:
    assert asked(strength=strength).strength == strength


@pytest.mark.parametrize(
    ("fields", "valid"),
    [
        ({}, True),
        ({"image": examples.IMAGE, "strength": 0.5, "n": 2, "size": "64x64"}, True),
        ({"strength": 0}, False),
        ({"strength": 1.1}, False),
        ({"image": None}, False),
        ({"mask": PICTURE}, False),
    ],
)
def test_the_schema_accepts_what_nodes_accept(fields: dict[str, Any], valid: bool) -> None:
    document = {"prompt": "a horse", "image": PICTURE, **fields}
    assert Draft202012Validator(SCHEMA).is_valid(document) is valid


def test_the_examples_are_valid_against_the_schema() -> None:
    assert OPEA_REQUEST in SCHEMA["examples"]
    for each in SCHEMA["examples"]:
        Draft202012Validator(SCHEMA).validate(each)


def test_a_result_tells_every_effective_value_and_survives_the_wire() -> None:
    told = set(Image2ImageParameters.model_fields) - set(EffectiveParameters.model_fields)
    assert told == {"strength", "denoising_steps", "image_sha256"}
    parameters = Image2ImageParameters(prompt="a horse", strength=0.5, denoising_steps=3)
    result = Image2ImageResult(job_id="job", status="succeeded", parameters=parameters)
    assert Image2ImageResult.model_validate_json(result.to_json()) == result
    assert b'"strength":0.5' in result.to_json()
