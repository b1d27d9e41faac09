"""Requests in every accepted spelling, and clear refusals of everything else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts import examples
from contracts.aliases import RENAMED
from contracts.result import Status
from contracts.text2image import (
    MAX_IMAGES,
    MAX_PROMPT_CHARS,
    GeneratedImage,
    OutputFormat,
    Text2ImageRequest,
    Text2ImageResult,
)

MAX_SEED = 2**63 - 1
HUGE = 10**400


def read(**fields: Any) -> Text2ImageRequest:
    return Text2ImageRequest.model_validate({"prompt": "a horse", **fields})


def refusal(**fields: Any) -> str:
    """Say where and why a request is refused; there is exactly one reason."""
    with pytest.raises(ValidationError) as caught:
        read(**fields)
    (error,) = caught.value.errors()
    return f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"


def test_a_prompt_is_enough() -> None:
    request = Text2ImageRequest.model_validate_json('{"prompt": "An astronaut"}')
    assert request.model_dump(mode="json") == {
        "prompt": "An astronaut",
        "negative_prompt": None,
        "model": None,
        "width": None,
        "height": None,
        "num_inference_steps": None,
        "guidance_scale": None,
        "num_images_per_prompt": 1,
        "seed": None,
        "scheduler": None,
        "loras": [],
        "output_format": "png",
        "output_quality": None,
        "response": "inline",
        "previews": 0,
        "strict": False,
        "metadata": {},
    }


@pytest.mark.parametrize("job_id", [None, "0f8fad5bd9cb469fa16570867728950e"])
@pytest.mark.parametrize("negative", [None, "", "blurry", ["blurry"]])
def test_a_body_of_opea_is_valid_as_it_is(job_id: Any, negative: Any) -> None:
    body = {**examples.OPEA_REQUEST, "id": job_id, "negative_prompt": negative}
    request = Text2ImageRequest.model_validate_json(json.dumps(body))
    assert (request.num_inference_steps, request.guidance_scale, request.seed) == (50, 7.5, 42)
    assert request.negative_prompt == ("blurry" if negative else None)


@pytest.mark.parametrize(
    ("alias", "fields"),
    [
        ({"n": 3}, {"num_images_per_prompt": 3}),
        ({"steps": 7}, {"num_inference_steps": 7}),
        ({"cfg_scale": 2}, {"guidance_scale": 2.0}),
        ({"size": "640x512"}, {"width": 640, "height": 512}),
        ({"size": "640X512"}, {"width": 640, "height": 512}),
        ({"lora_weight_name_or_path": "pixel-art"}, {"loras": [{"name": "pixel-art"}]}),
        ({"lora_weight_name_or_path": ""}, {"loras": []}),
        ({"id": "0f8fad5b"}, {}),
        ({"negative_prompt": ["blurry"]}, {"negative_prompt": "blurry"}),
        ({"negative_prompt": "  "}, {"negative_prompt": None}),
        ({"seed": -1}, {"seed": None}),
    ],
)
def test_an_alias_is_its_field(alias: dict[str, Any], fields: dict[str, Any]) -> None:
    assert read(**alias) == read(**fields)


@pytest.mark.parametrize("alias", [*RENAMED, "size", "lora_weight_name_or_path", "id"])
def test_an_alias_that_is_null_says_nothing(alias: str) -> None:
    assert read(**{alias: None}) == read()
    assert read(**{alias: None}, num_images_per_prompt=2) == read(num_images_per_prompt=2)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "num_images_per_prompt": 1},
        {"steps": 1, "num_inference_steps": 1},
        {"cfg_scale": 1, "guidance_scale": 1},
        {"size": "512x512", "width": 512},
        {"size": "512x512", "height": 512},
        {"lora_weight_name_or_path": "a", "loras": [{"name": "b"}]},
    ],
)
def test_a_field_said_twice_is_refused(fields: dict[str, Any]) -> None:
    assert "say the same thing" in refusal(**fields)


BOUNDS: dict[str, tuple[list[Any], list[Any]]] = {
    "prompt": (["x", "x" * MAX_PROMPT_CHARS, " x ", "🦄"], ["", " \n\t", "x" * 4001, "a\0b", 5]),
    "negative_prompt": ([None, "x"], ["x" * 4001, "\0", 5, [], ["a", "b"], [["a"]]]),
    "model": ([None, "sdxl", "org/My_Model.v1-x"], ["", "a/b/c", "/etc", "../x", "http://x", 5]),
    "width": ([None, 8, 512, 16384], [0, -8, 513, 16392, 10**9, HUGE, -HUGE]),
    "height": ([None, 8, 512, 16384], [0, -8, 513, 16392, 10**9, HUGE, -HUGE]),
    "num_inference_steps": ([None, 1, 1000], [0, -1, 1001, 10**9, HUGE]),
    "guidance_scale": (
        [None, 0, 7.5, 50],
        [-0.1, 50.1, 1e308, HUGE, float("nan"), float("inf"), float("-inf")],
    ),
    "num_images_per_prompt": ([1, MAX_IMAGES], [0, -1, MAX_IMAGES + 1, 10**9, HUGE, None]),
    "seed": ([None, 0, MAX_SEED, -1, [5]], [-2, MAX_SEED + 1, HUGE, [-1], [0.5], [True]]),
    "scheduler": ([None, "DDIMScheduler"], ["", "a/b", "a b", "../x", "x" * 129]),
    "output_quality": ([None], [0, 101, HUGE]),
    "previews": ([0, 10], [-1, 11, HUGE, None]),
    "output_format": (["png", "jpeg", "webp"], ["PNG", "gif", "", ["png"], None]),
    "response": (["inline", "reference"], ["url", "", None]),
    "strict": ([True, False], [None]),
    "loras": (
        [[], [{"name": "a"}], [{"name": "a", "scale": -10}]],
        [None, "a", [{"name": "a"}] * 9],
    ),
    "metadata": ([{}, {"album": "space"}], [None, [], {"k": 1}, {"k": "x" * 4096}]),
}
TAKEN = [(field, value) for field, (good, _) in BOUNDS.items() for value in good]
REFUSED = [(field, value) for field, (_, bad) in BOUNDS.items() for value in bad]


def test_every_field_has_its_bounds_tested() -> None:
    assert set(BOUNDS) == set(Text2ImageRequest.model_fields)


@pytest.mark.parametrize(("field", "value"), TAKEN, ids=lambda value: ascii(value)[:30])
def test_a_value_within_bounds_is_taken(field: str, value: Any) -> None:
    request = read(**{field: value})
    assert Text2ImageRequest.model_validate_json(request.to_json()) == request


@pytest.mark.parametrize(("field", "value"), REFUSED, ids=lambda value: ascii(value)[:30])
def test_a_value_out_of_bounds_is_refused_by_name(field: str, value: Any) -> None:
    assert field in refusal(**{field: value})


@pytest.mark.parametrize(
    "field",
    [
        *("width", "height", "num_inference_steps", "guidance_scale", "num_images_per_prompt"),
        *("seed", "output_quality", "previews"),
    ],
)
@pytest.mark.parametrize("value", [True, "8", "eight", [8.5], {}, {"a": {"b": {}}}])
def test_a_number_is_a_number(field: str, value: Any) -> None:
    assert refusal(**{field: value}).startswith(f"{field}: ")


@pytest.mark.parametrize("value", [1, 0, "true", "yes", []])
def test_a_flag_is_true_or_false(value: Any) -> None:
    assert refusal(strict=value) == "strict: Input should be a valid boolean"


@pytest.mark.parametrize(
    "size",
    ["512", "512x", "x512", "5x²", "²x²", "-8x8", "8x8x8", " 8x8", "9" * 9999, 512, HUGE, [], True],
    ids=lambda value: ascii(value)[:30],
)
def test_a_size_is_width_x_height(size: Any) -> None:
    assert 'size is "WIDTHxHEIGHT"' in refusal(size=size)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "https://evil.example/x", "a\n", ".x", 0])
def test_a_lora_is_a_name_and_never_a_path(name: Any) -> None:
    assert refusal(lora_weight_name_or_path=name).startswith("loras.0.name: ")
    assert refusal(loras=[{"name": name}]).startswith("loras.0.name: ")


@pytest.mark.parametrize("scale", [10.1, -10.1, True, "1", None, float("nan"), HUGE])
def test_the_scale_of_a_lora_is_bounded(scale: Any) -> None:
    assert refusal(loras=[{"name": "a", "scale": scale}]).startswith("loras.0.scale: ")


def test_an_unknown_field_is_never_ignored() -> None:
    assert refusal(stpes=5).startswith("stpes: ")
    assert refusal(loras=[{"name": "a", "path": "/x"}]).startswith("loras.0.path: ")


@pytest.mark.parametrize("job_id", [5, {}, ["a"], True])
def test_an_id_is_text(job_id: Any) -> None:
    assert "id is the job id" in refusal(id=job_id)


def test_seeds_are_one_for_each_image() -> None:
    assert read(seed=[1, 2], n=2).seed == [1, 2]
    assert "seed lists 2 numbers for 1 images" in refusal(seed=[1, 2])
    assert "seed lists 0 numbers for 1 images" in refusal(seed=[])
    assert "lists 100000 numbers" in refusal(seed=["x"] * 100_000)


def test_quality_is_refused_where_it_means_nothing() -> None:
    assert "png is lossless" in refusal(output_quality=90)
    assert read(output_quality=90, output_format="jpeg").output_quality == 90


def test_prompts_are_stripped_and_otherwise_untouched() -> None:
    assert read(prompt=" \n a  b\t").prompt == "a  b"


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\0"])
def test_text_that_no_encoding_has_is_refused(text: str) -> None:
    assert refusal(prompt=text).startswith("prompt: ")
    assert refusal(negative_prompt=text).startswith("negative_prompt: ")
    assert refusal(negative_prompt=[text]).startswith("negative_prompt: ")


def test_a_file_format_has_its_media_type() -> None:
    assert [each.media_type for each in OutputFormat] == ["image/png", "image/jpeg", "image/webp"]


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_the_seed_of_an_image_is_in_range(seed: int) -> None:
    with pytest.raises(ValidationError):
        GeneratedImage.model_validate({**examples.IMAGE, "seed": seed})


def test_a_result_has_exactly_the_fields_of_the_wire() -> None:
    assert set(Text2ImageResult.model_fields) == {
        *("job_id", "status", "model", "revision", "images", "parameters", "identity"),
        *("warnings", "metadata", "timings", "node", "error"),
    }
    assert [status.value for status in Status] == ["succeeded", "failed", "cancelled", "expired"]


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=50)
seeds = st.integers(0, MAX_SEED)
requests = st.fixed_dictionaries(
    {"prompt": texts.filter(str.strip)},
    optional={
        "negative_prompt": st.none() | texts,
        "model": st.none() | names,
        "width": st.none() | st.integers(1, 2048).map(lambda n: n * 8),
        "height": st.none() | st.integers(1, 2048).map(lambda n: n * 8),
        "num_inference_steps": st.none() | st.integers(1, 1000),
        "guidance_scale": st.none() | st.floats(0, 50),
        "num_images_per_prompt": st.integers(1, MAX_IMAGES),
        "seed": st.none() | st.integers(-1, MAX_SEED),
        "scheduler": st.none() | names,
        "loras": st.lists(
            st.fixed_dictionaries({"name": names, "scale": st.floats(-10, 10)}), max_size=8
        ),
        "output_format": st.sampled_from(["jpeg", "webp"]),
        "response": st.sampled_from(["inline", "reference"]),
        "previews": st.integers(0, 10),
        "strict": st.booleans(),
        "metadata": st.dictionaries(texts, texts, max_size=5),
    },
)


@given(requests)
def test_a_request_survives_the_wire(document: dict[str, Any]) -> None:
    request = Text2ImageRequest.model_validate_json(json.dumps(document))
    assert Text2ImageRequest.model_validate_json(request.to_json()) == request
    assert Text2ImageRequest.model_validate(json.loads(request.to_json())) == request


KEYS = [
    *(*Text2ImageRequest.model_fields, *RENAMED),
    *("size", "lora_weight_name_or_path", "id", "unknown"),
]
numbers = st.none() | st.booleans() | st.integers() | st.sampled_from([HUGE, -HUGE])
scalars = numbers | st.floats() | st.text() | st.sampled_from(["\ud800", "\0", "512x512"])
anything = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)


@given(anything | st.dictionaries(st.sampled_from(KEYS), anything))
def test_arbitrary_json_is_taken_or_refused_and_nothing_else(document: Any) -> None:
    try:
        request = Text2ImageRequest.model_validate(document)
    except ValidationError:
        return
    assert Text2ImageRequest.model_validate_json(request.to_json()) == request
