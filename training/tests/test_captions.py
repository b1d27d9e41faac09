"""Captions say what a scene shows, in known words only."""

import random
import re
from itertools import islice

import pytest

from training.captions import canonical_caption, caption, known_words
from training.labels import HEADS, class_numbers, labels_of, scene_of
from training.scenes import HEADLINE, Item, Relation, Scene, sample_scenes


def test_the_headline_reads_as_opea_words_it() -> None:
    assert canonical_caption(HEADLINE) == "an astronaut riding a green horse"


@pytest.mark.parametrize(
    ("scene", "text"),
    [
        (Scene((Item("cat", "orange"),), background="gray"), "an orange cat on a gray background"),
        (Scene((Item("butterfly"),), count=3), "three butterflies"),
        (Scene((Item("owl"),), size="small"), "a small owl"),
        (Scene((Item("apple"), Item("car")), relation=Relation.NEXT_TO), "an apple next to a car"),
    ],
)
def test_the_canonical_caption_names_everything(scene: Scene, text: str) -> None:
    assert canonical_caption(scene) == text


def test_the_same_seed_gives_the_same_wording() -> None:
    def wordings() -> list[str]:
        rng = random.Random(2)
        return [caption(scene, rng) for scene in islice(sample_scenes(1), 50)]

    assert wordings() == wordings()


def test_captions_use_known_words_only() -> None:
    rng, known = random.Random(3), set(known_words())
    for scene in islice(sample_scenes(3), 500):
        assert set(re.findall(r"[a-z0-9]+", caption(scene, rng).lower())) <= known


def test_captions_name_every_subject_and_the_background() -> None:
    rng = random.Random(4)
    for scene in islice(sample_scenes(4), 500):
        text = caption(scene, rng).lower().replace("grey", "gray")
        assert (scene.background or "") in text
        assert all(item.subject[:4] in text and (item.tint or "") in text for item in scene.items)


def test_labels_give_back_the_caption_of_their_scene() -> None:
    for scene in islice(sample_scenes(5), 300):
        named = Scene(scene.items, scene.count, scene.size, scene.relation, scene.seen_background)
        assert canonical_caption(scene_of(labels_of(scene))) == canonical_caption(named)
        assert len(class_numbers(scene)) == len(HEADS)
