"""What is tried next where memory ran out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.text2image import Identity
from node.inference.memory_plan import (
    PLAIN,
    Measure,
    MemoryPlan,
    Phase,
    next_plan,
    tile_pixels,
    usable_measures,
)

EVERYTHING = frozenset(Measure)
TILED = MemoryPlan(frozenset({Measure.VAE_TILING}))
OFFLOADED = MemoryPlan(frozenset({Measure.MODEL_OFFLOAD}))
SEQUENTIAL = MemoryPlan(frozenset({Measure.SEQUENTIAL_OFFLOAD}))


def ladder(phase: Phase | None, usable: frozenset[Measure]) -> list[MemoryPlan]:
    """Every plan in turn, where each fails in the same phase."""
    plans, plan = [], next_plan(PLAIN, phase, usable)
    while plan is not None:
        assert len(plans) < 10, "the ladder has no end"
        plans.append(plan)
        plan = next_plan(plan, phase, usable)
    return plans


def plans(*measures: set[Measure]) -> list[MemoryPlan]:
    return [MemoryPlan(frozenset(each)) for each in measures]


def test_a_decode_without_memory_is_tiled_then_offloaded_then_offloaded_piece_by_piece() -> None:
    assert ladder(Phase.DECODE, EVERYTHING) == plans(
        {Measure.VAE_TILING},
        {Measure.VAE_TILING, Measure.MODEL_OFFLOAD},
        {Measure.VAE_TILING, Measure.SEQUENTIAL_OFFLOAD},
    )


def test_tiles_of_the_decode_are_no_help_to_a_denoising_without_memory() -> None:
    assert ladder(Phase.DENOISE, EVERYTHING - {Measure.ATTENTION_SLICING}) == [
        OFFLOADED,
        SEQUENTIAL,
    ]


def test_attention_is_sliced_before_anything_is_offloaded() -> None:
    assert next_plan(PLAIN, Phase.DENOISE, EVERYTHING) == MemoryPlan(
        frozenset({Measure.ATTENTION_SLICING})
    )


def test_a_prompt_without_memory_is_helped_by_offload_only() -> None:
    assert ladder(Phase.ENCODE, EVERYTHING) == [OFFLOADED, SEQUENTIAL]


def test_a_picture_without_memory_to_be_encoded_is_tiled_before_anything_is_offloaded() -> None:
    assert next_plan(PLAIN, Phase.ENCODE_PICTURE, EVERYTHING) == TILED


def test_where_the_phase_is_not_known_everything_is_tried_the_cheapest_first() -> None:
    first, *_, last = ladder(None, EVERYTHING)
    assert first.measures == {Measure.ATTENTION_SLICING}
    assert last.measures == EVERYTHING - {Measure.MODEL_OFFLOAD}


def test_what_the_device_does_not_have_is_never_tried() -> None:
    assert ladder(Phase.DECODE, frozenset({Measure.VAE_TILING})) == [TILED]
    assert ladder(Phase.DENOISE, frozenset({Measure.VAE_TILING})) == []


@given(
    st.sampled_from([*Phase, None]),
    st.frozensets(st.sampled_from(Measure)),
    st.frozensets(st.sampled_from(Measure)),
)
def test_each_plan_is_new_and_the_ladder_ends(
    phase: Phase | None, failed: frozenset[Measure], usable: frozenset[Measure]
) -> None:
    seen, plan = [MemoryPlan(failed)], next_plan(MemoryPlan(failed), phase, usable)
    while plan is not None:
        assert plan not in seen
        assert plan.measures <= failed | usable
        seen.append(plan)
        plan = next_plan(plan, phase, usable)


def test_strict_requests_get_only_what_leaves_every_byte_as_it_is() -> None:
    usable = usable_measures(EVERYTHING, strict=True, width=1024, height=1024)
    assert usable == {Measure.MODEL_OFFLOAD, Measure.SEQUENTIAL_OFFLOAD}
    assert {plan.identity for plan in ladder(Phase.DECODE, usable)} == {Identity.EXACT}


@pytest.mark.parametrize(("width", "height", "tiles"), [(256, 256, False), (64, 264, True)])
def test_an_image_no_larger_than_a_tile_is_not_tiled(width: int, height: int, tiles: bool) -> None:
    usable = usable_measures(EVERYTHING, strict=False, width=width, height=height)
    assert (Measure.VAE_TILING in usable) is tiles


@pytest.mark.parametrize(
    ("plan", "identity"),
    [
        (PLAIN, Identity.EXACT),
        (TILED, Identity.APPROXIMATE),
        (OFFLOADED, Identity.EXACT),
        (SEQUENTIAL, Identity.EXACT),
        (MemoryPlan(frozenset({Measure.ATTENTION_SLICING})), Identity.CLOSE),
        (MemoryPlan(TILED.measures | OFFLOADED.measures), Identity.APPROXIMATE),
    ],
)
def test_a_plan_is_as_close_as_its_least_exact_measure(
    plan: MemoryPlan, identity: Identity
) -> None:
    assert plan.identity is identity


def test_a_caller_reads_what_was_done_and_why() -> None:
    both = MemoryPlan(TILED.measures | OFFLOADED.measures)
    assert both.warnings == [
        "memory: made with VAE tiling and model offload, since the plain way ran out of memory"
    ]
    assert PLAIN.warnings == []
    assert str(PLAIN) == "the plain way"


@given(st.integers(8, 16384), st.integers(8, 16384))
def test_a_tile_is_whole_latents_and_neither_tiny_nor_huge(width: int, height: int) -> None:
    pixels = tile_pixels(width, height)
    assert 256 <= pixels <= 512
    assert pixels % 32 == 0
    assert pixels * 3 // 4 % 32 == 0


def test_a_tile_has_a_quarter_of_the_area_of_usual_images() -> None:
    assert [tile_pixels(side, side) for side in (512, 768, 1024, 2048)] == [256, 384, 512, 512]
