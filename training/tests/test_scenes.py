"""Scenes are a pure function of their seed, unambiguous, and honest about what is held out."""

import random
from itertools import islice

import numpy as np
import pytest

from training.scenes import (
    GRID_PIXELS,
    HEADLINE,
    PICTURE_PIXELS,
    Item,
    Relation,
    Scene,
    is_held_out,
    layout,
    render,
    sample_scenes,
    sprite,
)
from training.tests import needs
from training.vocabulary import BACKGROUNDS, SUBJECTS, TINTS


@needs.font
def test_the_same_seed_gives_the_same_pictures() -> None:
    first, second = (list(islice(sample_scenes(3), 20)) for _ in range(2))
    assert first == second
    assert all(np.array_equal(render(a), render(b)) for a, b in zip(first, second, strict=True))


def test_the_same_seed_gives_the_same_scenes() -> None:
    first, second = (list(islice(sample_scenes(3), 200)) for _ in range(2))
    assert first == second


def test_another_seed_gives_other_scenes() -> None:
    assert list(islice(sample_scenes(3), 20)) != list(islice(sample_scenes(4), 20))


def test_training_never_meets_a_held_out_combination() -> None:
    assert not any(is_held_out(scene) for scene in islice(sample_scenes(5), 3000))
    assert all(is_held_out(scene) for scene in islice(sample_scenes(5, held_out=True), 100))


@pytest.mark.parametrize("background", [None, *BACKGROUNDS])
def test_the_headline_is_held_out_on_every_background(background: str | None) -> None:
    assert is_held_out(Scene(HEADLINE.items, relation=HEADLINE.relation, background=background))


@needs.font
def test_every_sprite_stays_inside_the_picture_and_on_the_grid() -> None:
    for scene in islice(sample_scenes(6), 2000):
        for placement in layout(scene):
            assert placement.left % GRID_PIXELS == placement.top % GRID_PIXELS == 0
            assert min(placement.left, placement.top) >= 0
            assert max(placement.left, placement.top) + placement.edge <= PICTURE_PIXELS


def test_no_item_is_tinted_like_its_background() -> None:
    for scene in islice(sample_scenes(7), 2000):
        assert all(item.tint != scene.seen_background for item in scene.items)


@needs.font
def test_a_rider_overlaps_the_upper_part_of_its_mount() -> None:
    mount, rider = layout(HEADLINE)
    assert rider.item.subject == "astronaut"
    assert rider.top < mount.top < rider.top + rider.edge < mount.top + mount.edge


@needs.font
@pytest.mark.parametrize("subject", [subject.name for subject in SUBJECTS])
def test_every_subject_has_a_glyph_that_fills_its_box(subject: str) -> None:
    opaque = sprite(Item(subject), 80)[..., 3] > 128
    assert opaque.any(axis=0).sum() > 72 or opaque.any(axis=1).sum() > 72


@needs.font
@pytest.mark.parametrize("tint", TINTS)
def test_a_tint_moves_a_glyph_towards_its_colour(tint: str) -> None:
    def distance(item: Item) -> float:
        pixels = sprite(item, 80)
        colour = np.median(pixels[pixels[..., 3] > 200][:, :3], axis=0)
        return float(np.abs(colour - TINTS[tint][1]).sum())

    assert distance(Item("horse", tint)) < 40


@needs.font
def test_white_lies_behind_a_scene_that_names_no_background() -> None:
    picture = render(Scene((Item("cat"),), relation=None))
    assert picture[0, 0].tolist() == [255, 255, 255]


def test_items_above_one_another_do_not_overlap() -> None:
    items = (Item("cat"), Item("dog"))
    first, second = layout(Scene(items, relation=Relation.ABOVE))
    assert first.top + first.edge <= second.top


def test_sampling_leaves_the_global_random_state_alone() -> None:
    random.seed(1)
    before = random.getstate()
    next(sample_scenes(1))
    assert random.getstate() == before
