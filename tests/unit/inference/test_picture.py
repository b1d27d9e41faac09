"""What a picture and a strength add to a plan: decided without torch."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from contracts.image2image import Image2ImageParameters, Image2ImageRequest
from node.errors import InvalidRequest
from node.inference.parameters import Plan
from node.inference.picture import Source, fitted_size, kept_steps, plan_from_picture, resized
from node.inference.traits import Kept, ModelTraits, Task
from tests.unit.inference.traits import LIMITS
from tests.unit.inference.traits import TRAITS as TEXT2IMAGE_TRAITS

# As those of Stable Diffusion: no width and no height, which are the picture's.
ARGUMENTS = frozenset(
    {
        *("prompt", "image", "strength", "num_inference_steps", "guidance_scale"),
        *("negative_prompt", "num_images_per_prompt", "callback_on_step_end"),
    }
)
TRAITS = replace(
    TEXT2IMAGE_TRAITS,
    family="StableDiffusionImg2ImgPipeline",
    arguments=ARGUMENTS,
    schedulers=("PNDMScheduler",),
    task=Task.IMAGE2IMAGE,
    strength=0.8,
    kept=Kept.ROUNDED_DOWN,
)
SOURCE = Source(Image.new("RGB", (128, 64)), "ab" * 32)


def planned(traits: ModelTraits = TRAITS, source: Source = SOURCE, **fields: Any) -> Plan:
    return plan_from_picture(
        Image2ImageRequest(**{"prompt": "a horse", "image": "iVBORw0KGgo="} | fields),
        source,
        model="tiny",
        traits=traits,
        limits=LIMITS,
        loras=[],
        random_seed=1234,
    )


def test_a_silent_request_gets_the_size_of_its_picture_and_what_the_model_wants() -> None:
    made = planned()
    assert made.parameters == Image2ImageParameters(
        prompt="a horse",
        model="tiny",
        width=128,
        height=64,
        num_inference_steps=10,
        guidance_scale=7.5,
        seed=[1234],
        scheduler="PNDMScheduler",
        strength=0.8,
        denoising_steps=8,
        image_sha256="ab" * 32,
    )
    assert made.warnings == ()
    assert made.total_steps == 8


def test_the_picture_and_the_strength_go_into_the_call_and_the_size_only_where_it_is_taken() -> (
    None
):
    made = planned(strength=0.5, num_images_per_prompt=2)
    assert made.arguments == {
        "prompt": "a horse",
        "image": SOURCE.image,
        "strength": 0.5,
        "num_inference_steps": 10,
        "guidance_scale": 7.5,
        "num_images_per_prompt": 1,
    }
    assert made.total_steps == 10
    sized = planned(replace(TRAITS, arguments=ARGUMENTS | {"width", "height"}), width=64)
    assert (sized.arguments["width"], sized.arguments["height"]) == (64, 64)


def test_a_model_without_a_strength_is_not_given_one_and_says_so() -> None:
    traits = replace(TRAITS, arguments=ARGUMENTS - {"strength"}, strength=None, kept=Kept.ALL)
    made = planned(traits, strength=0.5)
    assert "strength" not in made.arguments
    assert made.warnings == ("strength has no effect on this model",)
    assert isinstance(made.parameters, Image2ImageParameters)
    assert (made.parameters.strength, made.parameters.denoising_steps) == (None, 10)
    assert planned(traits).warnings == ()


@pytest.mark.parametrize(
    ("strength", "kept", "warned"),
    [
        (0.95, Kept.ROUNDED_UP, True),
        (0.9, Kept.ROUNDED_UP, False),
        (1.0, Kept.ROUNDED_UP, False),
        (0.95, Kept.ROUNDED_DOWN, False),
        (0.95, Kept.ALL, False),
    ],
)
def test_a_strength_that_is_rounded_up_to_everything_is_warned_of(
    strength: float, kept: Kept, warned: bool
) -> None:
    said = [
        f"strength: {strength} of 10 inference steps is rounded up to all of them, which leaves "
        "little or nothing of the picture"
    ]
    assert list(planned(replace(TRAITS, kept=kept), strength=strength).warnings) == said * warned


def test_limits_are_those_of_every_request() -> None:
    with pytest.raises(InvalidRequest, match=r"width: 72 is not a multiple of 16"):
        planned(width=72)
    with pytest.raises(InvalidRequest, match=r"num_inference_steps: 21"):
        planned(num_inference_steps=21)


@pytest.mark.parametrize(
    ("size", "width", "height", "made"),
    [
        ((128, 64), None, None, (128, 64)),
        ((130, 71), None, None, (128, 64)),
        ((136, 72), None, None, (128, 64)),
        ((2048, 1024), None, None, (512, 256)),
        ((1024, 2048), None, None, (256, 512)),
        ((32, 64), None, None, (64, 128)),
        ((4000, 10), None, None, (512, 64)),
        ((10, 4000), None, None, (64, 512)),
        ((128, 64), 256, None, (256, 128)),
        ((128, 64), None, 256, (512, 256)),
        ((128, 64), 64, None, (64, 64)),
        ((128, 64), 96, 80, (96, 80)),
    ],
)
def test_images_are_as_large_as_asked_else_as_the_picture(
    size: tuple[int, int], width: int | None, height: int | None, made: tuple[int, int]
) -> None:
    assert fitted_size(size, width, height, LIMITS) == made


SIDES = st.integers(1, 8192)


@given(SIDES, SIDES, st.sampled_from([8, 16, 32, 64]))
def test_every_picture_has_a_size_that_the_model_can_make(
    width: int, height: int, grid: int
) -> None:
    limits = LIMITS.model_copy(update={"size_granularity": grid, "min_pixels": 72})
    for side in fitted_size((width, height), None, None, limits):
        assert side % grid == 0
        assert limits.min_pixels <= side <= limits.max_pixels


@pytest.mark.parametrize(
    ("steps", "strength", "down", "up"),
    [
        (10, 0.3, 3, 3),
        (10, 0.25, 2, 3),
        (10, 0.1 + 0.2, 3, 3),
        (25, 0.28, 7, 7),
        (25, 0.3, 7, 8),
        (100, 0.29, 28, 29),
        (50, 1.0, 50, 50),
        (1, 1.0, 1, 1),
        (3, 0.5, 1, 2),
    ],
)
def test_steps_are_counted_as_diffusers_counts_them(
    steps: int, strength: float, down: int, up: int
) -> None:
    assert kept_steps(steps, strength, Kept.ROUNDED_DOWN) == down
    assert kept_steps(steps, strength, Kept.ROUNDED_UP) == up
    assert kept_steps(steps, strength, Kept.ALL) == steps
    assert kept_steps(steps, None, Kept.ROUNDED_DOWN) == steps


STRENGTHS = st.floats(0, 1, exclude_min=True)


@given(st.integers(1, 1000), STRENGTHS, st.sampled_from(Kept))
def test_there_is_a_step_to_run_or_what_to_ask_for_instead(
    steps: int, strength: float, kept: Kept
) -> None:
    try:
        assert 1 <= kept_steps(steps, strength, kept) <= steps
    except InvalidRequest as refusal:
        enough = float(refusal.detail.rpartition("a strength of at least ")[2])
    else:
        return
    assert 1 <= kept_steps(steps, enough, kept) <= steps


def test_the_picture_is_brought_to_the_size_of_its_images() -> None:
    made = resized(planned(width=64, height=96))
    assert made.arguments["image"].size == (64, 96)
    same = planned()
    assert resized(same).arguments["image"] is SOURCE.image
