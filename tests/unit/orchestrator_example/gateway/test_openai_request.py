"""What becomes of each parameter of OpenAI's image API."""

import re
from pathlib import Path
from typing import Any

import pytest
from openai.types.image_generate_params import ImageGenerateParamsBase

from contracts.text2image import OutputFormat, Text2ImageRequest
from orchestrator_example.gateway.openai_errors import InvalidParameter, UnknownParameter
from orchestrator_example.gateway.openai_request import ImagesRequest, in_our_models, read

PROMPT = "a red cat"
OWN_FIELDS: dict[str, Any] = {
    "negative_prompt": "blurry",
    "seed": 42,
    "num_inference_steps": 4,
    "guidance_scale": 3.0,
    "scheduler": "DDIMScheduler",
    "loras": [{"name": "pixel-art"}],
    "strict": True,
    "metadata": {"album": "cats"},
    "width": 64,
    "height": 128,
}
ONLY_WITH_GIF_OR_SVG = {"frame_count", "frame_duration_ms", "svg"}


def made(**given: Any) -> Text2ImageRequest:
    return read({"prompt": PROMPT, **given}).request


def refused(**given: Any) -> InvalidParameter:
    with pytest.raises(InvalidParameter) as caught:
        read({"prompt": PROMPT, **given})
    return caught.value


def test_a_prompt_is_enough() -> None:
    wanted = read({"prompt": PROMPT})
    assert wanted.request == Text2ImageRequest(prompt=PROMPT)
    assert (wanted.stream, wanted.links, wanted.warnings) == (False, False, ())


def test_null_says_nothing() -> None:
    fields = set(ImagesRequest.model_fields) | set(OWN_FIELDS) | ONLY_WITH_GIF_OR_SVG
    nothing = dict.fromkeys(fields - {"prompt"})
    assert read({"prompt": PROMPT, **nothing}) == read({"prompt": PROMPT})


def test_every_parameter_of_the_installed_client_is_known() -> None:
    named = set(ImageGenerateParamsBase.__annotations__) | {"stream", "partial_images"}
    assert named - set(ImagesRequest.model_fields) == ONLY_WITH_GIF_OR_SVG


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ({"model": "org/model"}, {"model": "org/model"}),
        ({"model": ""}, {"model": None}),
        ({"n": 3}, {"num_images_per_prompt": 3}),
        ({"size": "1024x512"}, {"width": 1024, "height": 512}),
        ({"size": "auto"}, {"width": None, "height": None}),
        ({"output_format": "jpeg"}, {"output_format": OutputFormat.JPEG, "output_quality": None}),
        ({"output_format": "webp", "output_compression": 70}, {"output_quality": 70}),
        ({"output_format": "jpeg", "output_compression": 100}, {"output_quality": 100}),
        ({"output_format": "jpeg", "output_compression": 0}, {"output_quality": 1}),
        ({"output_compression": 100}, {"output_quality": None}),
        ({"user": "u-1"}, {"metadata": {"user": "u-1"}}),
        (
            {"safety_identifier": "s-1", "metadata": {"album": "cats"}},
            {"metadata": {"safety_identifier": "s-1", "album": "cats"}},
        ),
    ],
)
def test_a_parameter_that_is_honoured(given: dict[str, Any], becomes: dict[str, Any]) -> None:
    wanted = read({"prompt": PROMPT, **given})
    assert {name: getattr(wanted.request, name) for name in becomes} == becomes
    assert wanted.warnings == ()


@pytest.mark.parametrize("name", OWN_FIELDS)
def test_fields_of_diffusers_are_taken_as_they_are(name: str) -> None:
    given = {name: OWN_FIELDS[name]}
    assert made(**given) == Text2ImageRequest(prompt=PROMPT, **given)


def test_every_field_of_ours_can_be_given_or_has_a_name_of_openai_s() -> None:
    said_otherwise = {"previews", "response", "num_images_per_prompt", "output_quality"}
    ours = set(Text2ImageRequest.model_fields)
    assert ours <= set(ImagesRequest.model_fields) | set(OWN_FIELDS) | said_otherwise


@pytest.mark.parametrize(
    ("partial_images", "n", "previews"), [(None, 1, 0), (0, 1, 0), (3, 1, 3), (2, 4, 8), (3, 4, 10)]
)
def test_a_stream_shows_each_image_as_often_as_asked(
    partial_images: int | None, n: int, previews: int
) -> None:
    assert made(stream=True, partial_images=partial_images, n=n).previews == previews


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"quality": "hd"}, "quality"),
        ({"style": "vivid"}, "style"),
        ({"complexity": "low"}, "complexity"),
        ({"moderation": "low"}, "moderation"),
        ({"partial_images": 2}, "partial_images"),
    ],
)
def test_a_hint_that_is_not_followed_is_warned_of(given: dict[str, Any], name: str) -> None:
    wanted = read({"prompt": PROMPT, **given})
    assert wanted.request == Text2ImageRequest(prompt=PROMPT)
    (warning,) = wanted.warnings
    assert warning.startswith(name)
    assert "no effect" in warning


@pytest.mark.parametrize(
    "given",
    [
        {"quality": "auto"},
        {"moderation": "auto"},
        {"background": "auto"},
        {"background": "opaque"},
        {"stream": False, "partial_images": 0},
        {"response_format": "b64_json"},
    ],
)
def test_what_is_so_anyway_is_not_warned_of(given: dict[str, Any]) -> None:
    assert read({"prompt": PROMPT, **given}) == read({"prompt": PROMPT})


@pytest.mark.parametrize(
    ("given", "param", "says"),
    [
        ({"prompt": ""}, "prompt", "at least 1 character"),
        ({"prompt": "x" * 4001}, "prompt", "at most 4000 characters"),
        ({"prompt": ["a", "b"]}, "prompt", "valid string"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 65}, "n", "less than or equal to 64"),
        ({"n": "2"}, "n", "valid integer"),
        ({"size": "8000000x8"}, None, "WIDTHxHEIGHT"),
        ({"size": "large"}, None, "WIDTHxHEIGHT"),
        ({"size": "100x100"}, "size", "multiple of 8"),
        ({"model": "../x"}, "model", "pattern"),
        ({"output_format": "gif"}, "output_format", "'png', 'jpeg' or 'webp'"),
        ({"output_compression": 50}, "output_compression", "png is lossless"),
        ({"output_compression": 101, "output_format": "webp"}, "output_compression", "100"),
        (
            {"output_compression": 50, "output_quality": 50, "output_format": "webp"},
            "output_compression",
            "give one of them",
        ),
        ({"background": "transparent"}, "background", "opaque"),
        ({"response_format": "png"}, "response_format", "'b64_json' or 'url'"),
        ({"stream": True, "response_format": "url"}, "response_format", "stream"),
        ({"stream": True, "partial_images": 4}, "partial_images", "less than or equal to 3"),
        ({"n": 2, "num_images_per_prompt": 2}, None, "say the same thing"),
        ({"metadata": "cats"}, "metadata", "valid dictionary"),
        ({"seed": [1, 2]}, None, "2 numbers for 1 images"),
    ],
)
def test_what_cannot_be_done_is_refused_and_says_why(
    given: dict[str, Any], param: str | None, says: str
) -> None:
    error = refused(**given)
    assert (error.status, error.code, error.param) == (400, "invalid_value", param)
    assert says in str(error)


@pytest.mark.parametrize(
    "given",
    [{"frame_count": 3}, {"svg": {"model": "x"}}, {"temperature": 1}, {"id": "j"}, {"previews": 1}],
)
def test_a_parameter_that_is_not_known_is_refused(given: dict[str, Any]) -> None:
    error = refused(**given)
    assert isinstance(error, UnknownParameter)
    assert (error.code, error.param) == ("unknown_parameter", next(iter(given)))


@pytest.mark.parametrize("body", [None, [], "a red cat", 3, b'{"prompt": "a red cat"}'])
def test_a_body_that_is_no_object_is_refused_with_an_example(body: Any) -> None:
    with pytest.raises(InvalidParameter, match="no JSON object such as"):
        read(body)


def test_a_body_without_a_prompt_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="prompt: Field required") as caught:
        read({"n": 1})
    assert caught.value.param == "prompt"


def test_a_hint_of_any_length_makes_a_short_warning() -> None:
    (warning,) = read({"prompt": PROMPT, "quality": "x" * 100_000}).warnings
    assert len(warning) <= 200


def test_the_documentation_says_what_becomes_of_every_parameter() -> None:
    text = (Path(__file__).parents[4] / "docs/openai.md").read_text()
    table = text.split("## Answers")[0]
    named = set(re.findall(r"`([a-z_]+)`", table))
    assert set(ImagesRequest.model_fields) | ONLY_WITH_GIF_OR_SVG <= named
    assert set(OWN_FIELDS) - {"width", "height"} <= named


def test_a_name_that_stands_for_the_default_model_is_taken_as_that_and_warned_of() -> None:
    wanted = read({"prompt": "a cat", "model": "dall-e-3"})
    assert in_our_models(wanted, ["gpt-image-1"]) == wanted
    taken = in_our_models(wanted, ["gpt-image-1", "dall-e-3"])
    assert taken.request == read({"prompt": "a cat"}).request
    assert "dall-e-3" in taken.warnings[0]
