"""Every field of a request is honoured, refused, or warned of: decided without torch."""

from dataclasses import replace
from typing import Any

import pytest

from contracts.message import MAX_SEED
from contracts.text2image import EffectiveParameters, Text2ImageRequest
from node.errors import InvalidRequest
from node.inference.parameters import Plan, check_limits, plan
from node.inference.traits import Guidance, ModelTraits
from tests.unit.inference.traits import ARGUMENTS, LIMITS, TRAITS


def asked(**fields: Any) -> Text2ImageRequest:
    return Text2ImageRequest(**{"prompt": "a horse"} | fields)


def planned(traits: ModelTraits = TRAITS, **fields: Any) -> Plan:
    return plan(
        asked(**fields),
        model="tiny",
        traits=traits,
        limits=LIMITS,
        loras=["noise", "paint"],
        random_seed=1234,
    )


def without(*arguments: str) -> ModelTraits:
    return replace(TRAITS, arguments=ARGUMENTS - set(arguments))


REFUSED = {
    "width": [({"width": 56}, "64..512"), ({"width": 520}, "64..512"), ({"width": 72}, "of 16")],
    "height": [({"height": 56}, "64..512"), ({"height": 104}, "96 is")],
    "num_images_per_prompt": [({"num_images_per_prompt": 5}, "1..4")],
    "num_inference_steps": [({"num_inference_steps": 21}, "1..20")],
    "loras": [
        ({"loras": [{"name": "other"}]}, "noise, paint"),
        ({"loras": [{"name": "noise"}, {"name": "noise"}]}, "more than once"),
    ],
    "scheduler": [({"scheduler": "Other"}, "DDIMScheduler, PNDMScheduler")],
}


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [(name, *case) for name, cases in REFUSED.items() for case in cases],
)
def test_what_is_not_offered_is_refused_by_the_name_of_its_field(
    name: str, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        planned(**fields)
    assert raised.value.detail.startswith(f"{name}: ")
    assert words in raised.value.detail
    assert "\n" not in raised.value.detail


@pytest.mark.parametrize("pixels", [64, 80, 512])
def test_a_size_on_the_grid_and_within_bounds_is_taken(pixels: int) -> None:
    check_limits(asked(width=pixels, height=pixels), LIMITS)


@pytest.mark.parametrize(("pixels", "nearest"), [(72, 64), (504, 496)])
def test_a_refused_size_comes_with_one_that_would_do(pixels: int, nearest: int) -> None:
    with pytest.raises(InvalidRequest, match=f"; {nearest} is"):
        check_limits(asked(width=pixels), LIMITS)


def test_the_suggested_size_is_never_below_the_least() -> None:
    limits = LIMITS.model_copy(update={"min_pixels": 72})
    with pytest.raises(InvalidRequest, match="; 80 is"):
        check_limits(asked(width=72), limits)


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_text_longer_than_is_read_is_refused(field: str) -> None:
    limits = LIMITS.model_copy(update={"max_prompt_chars": 10})
    with pytest.raises(InvalidRequest, match=f"^{field}: 11 characters"):
        check_limits(asked(**{field: "x" * 11}), limits)
    check_limits(asked(prompt="x" * 10), limits)


def test_a_node_without_loras_says_so() -> None:
    with pytest.raises(InvalidRequest, match="it offers none"):
        check_limits(asked(loras=[{"name": "noise"}]), LIMITS)


def test_a_silent_request_gets_what_the_model_wants() -> None:
    made = planned()
    assert made.parameters == EffectiveParameters(
        prompt="a horse",
        model="tiny",
        width=128,
        height=96,
        num_inference_steps=10,
        guidance_scale=7.5,
        seed=[1234],
        scheduler="PNDMScheduler",
    )
    assert made.warnings == ()
    assert made.total_steps == 10
    assert made.texts == {"prompt": "a horse"}


def test_what_a_request_names_goes_into_the_call() -> None:
    made = planned(
        negative_prompt="blurry",
        width=64,
        height=80,
        num_inference_steps=3,
        guidance_scale=2.5,
        num_images_per_prompt=2,
    )
    assert made.arguments == {
        "prompt": "a horse",
        "negative_prompt": "blurry",
        "width": 64,
        "height": 80,
        "num_inference_steps": 3,
        "guidance_scale": 2.5,
        "num_images_per_prompt": 1,
    }
    assert made.total_steps == 6
    assert made.texts == {"prompt": "a horse", "negative_prompt": "blurry"}


def test_a_guidance_of_zero_is_not_a_missing_one() -> None:
    assert planned(guidance_scale=0.0).arguments["guidance_scale"] == 0.0


def test_nothing_goes_to_a_pipeline_that_does_not_take_it() -> None:
    made = planned(without("width", "height", "guidance_scale", "num_images_per_prompt"))
    assert set(made.arguments) == {"prompt", "num_inference_steps"}


def test_families_that_would_bend_the_request_are_told_not_to() -> None:
    arguments = ARGUMENTS | {"use_resolution_binning", "clean_caption"}
    made = planned(replace(TRAITS, arguments=arguments))
    assert made.arguments["use_resolution_binning"] is False
    assert made.arguments["clean_caption"] is False


SEEDS = [
    ({"seed": 5}, [5]),
    ({"seed": 0}, [0]),
    ({"seed": None}, [1234]),
    ({"seed": -1}, [1234]),
    ({"seed": 5, "num_images_per_prompt": 3}, [5, 6, 7]),
    ({"seed": None, "num_images_per_prompt": 2}, [1234, 1235]),
    ({"seed": [9, 3], "num_images_per_prompt": 2}, [9, 3]),
    ({"seed": MAX_SEED, "num_images_per_prompt": 2}, [MAX_SEED, 0]),
]


@pytest.mark.parametrize(("fields", "seeds"), SEEDS)
def test_every_image_has_a_seed(fields: dict[str, Any], seeds: list[int]) -> None:
    assert planned(**fields).parameters.seed == seeds


@pytest.mark.parametrize(
    ("fields", "quality"),
    [
        ({}, None),
        ({"output_format": "jpeg"}, 90),
        ({"output_format": "webp", "output_quality": 1}, 1),
    ],
)
def test_quality_is_told_where_there_is_one(fields: dict[str, Any], quality: int | None) -> None:
    assert planned(**fields).parameters.output_quality == quality


NO_GUIDANCE = replace(TRAITS, guidance=Guidance.NONE, negative_prompt=False, guidance_scale=None)
WARNED = {
    "no classifier-free guidance": (NO_GUIDANCE, {"negative_prompt": "x"}, "negative_prompt has"),
    "guidance of 1": (
        TRAITS,
        {"negative_prompt": "x", "guidance_scale": 1.0},
        "negative_prompt has no effect with guidance_scale",
    ),
    "no guidance": (NO_GUIDANCE, {"guidance_scale": 3.0}, "guidance_scale has no effect"),
    "steps": (
        without("num_inference_steps"),
        {"num_inference_steps": 4},
        "num_inference_steps has no effect",
    ),
    "one size only": (without("width", "height"), {"width": 64}, "images of 128x96 only"),
    "no previews": (replace(TRAITS, previews=False), {"previews": 1}, "previews are not"),
    "too many previews": (TRAITS, {"previews": 3, "num_inference_steps": 2}, "fewer than 3"),
    "no callback": (without("callback_on_step_end"), {}, "reports no inference steps"),
}


@pytest.mark.parametrize(("traits", "fields", "words"), WARNED.values(), ids=WARNED)
def test_what_has_no_effect_is_warned_of_once(
    traits: ModelTraits, fields: dict[str, Any], words: str
) -> None:
    (warning,) = planned(traits, **fields).warnings
    assert words in warning


def test_a_negative_prompt_without_effect_is_not_passed_on() -> None:
    assert "negative_prompt" not in planned(negative_prompt="x", guidance_scale=1.0).arguments
    assert "negative_prompt" not in planned(NO_GUIDANCE, negative_prompt="x").arguments


@pytest.mark.parametrize("previews", [0, 1, 2])
def test_previews_are_made_where_the_model_can(previews: int) -> None:
    assert planned(previews=previews).previews == previews
    assert planned(replace(TRAITS, previews=False), previews=previews).previews == 0


def test_a_pipeline_without_a_callback_reports_no_steps() -> None:
    assert planned().reports_steps
    assert not planned(without("callback_on_step_end")).reports_steps


def test_a_plan_is_the_same_for_the_same_request() -> None:
    assert planned(seed=1) == planned(seed=1)
