"""Paraphrases ask for a scene in words that the picture model does not know."""

import random

import pytest

from training.captions import canonical_caption, is_caption, known_words
from training.paraphrases import nonsense, paraphrase, some_pairs
from training.real_prompts import REAL_PROMPTS
from training.scenes import HEADLINE, Item, Relation, Scene
from training.synonyms import COLOUR_WORDS, NOTHING_KNOWN, SUBJECT_WORDS, plural
from training.typing_errors import misspelt, with_typing_error
from training.vocabulary import BACKGROUNDS, BY_NAME, TINTS


def test_the_same_seed_gives_the_same_pairs_in_known_words() -> None:
    known = set(known_words())
    assert some_pairs(8, 50) == some_pairs(8, 50)
    assert some_pairs(8, 50) != some_pairs(9, 50)
    for _, wanted in some_pairs(8, 2000):
        assert is_caption(wanted), wanted
        assert set(wanted.split()) <= known


def test_every_subject_and_colour_has_other_words_and_none_means_two_things() -> None:
    assert set(SUBJECT_WORDS) == set(BY_NAME)
    assert set(COLOUR_WORDS) == {*TINTS, *BACKGROUNDS}
    for lists in (SUBJECT_WORDS, COLOUR_WORDS):
        words = [word for synonyms in lists.values() for word in synonyms]
        assert len(words) == len(set(words))
        assert not set(words) & set(lists)


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("puppy", "puppies"),
        ("spaceman", "spacemen"),
        ("spacewoman", "spacewomen"),
        ("slice of pizza", "slices of pizza"),
        ("man of snow", "men of snow"),
        ("bus", "buses"),
        ("monkey", "monkeys"),
        ("calf", "calves"),
        ("sea turtle", "sea turtles"),
        ("sheep", "sheep"),
        ("butterfly", "butterflies"),
        ("person", "people"),
    ],
)
def test_plurals_are_those_of_the_language(one: str, many: str) -> None:
    assert plural(one) == many


def test_a_text_about_nothing_gets_a_caption_all_the_same() -> None:
    rng = random.Random(1)
    texts = {nonsense(rng) for _ in range(200)}
    wanted = dict(some_pairs(3, 3000))
    assert {"a", "hello"} <= texts
    assert {caption for text, caption in wanted.items() if text in texts} == {f"a {NOTHING_KNOWN}"}


def test_something_unknown_beside_a_known_subject_is_left_out() -> None:
    asked = {text: caption for text, caption in some_pairs(5, 4000) if " sofa" in text.lower()}
    assert any(" robot" not in caption for caption in asked.values())
    assert not any("sofa" in caption for caption in asked.values())


def test_scenes_are_also_told_the_other_way_round() -> None:
    rng = random.Random(2)
    texts = {paraphrase(HEADLINE, rng).lower() for _ in range(3000)}
    assert any(" carrying " in text for text in texts)
    assert any(" rides " in text for text in texts)
    assert any(" is riding " in text for text in texts)


def test_on_means_above_only_where_nobody_rides() -> None:
    scene = Scene((Item("cat"), Item("castle")), relation=Relation.ABOVE)
    assert canonical_caption(scene) == "a cat above a castle"
    rng = random.Random(3)
    assert any(" on " in paraphrase(scene, rng) for _ in range(300))
    riding = Scene((Item("cat"), Item("horse")), relation=Relation.ABOVE)
    links = [paraphrase(riding, rng).lower() for _ in range(500)]
    assert not any("cat on a horse" in text or "cat sits on a horse" in text for text in links)


def test_typing_errors_leave_short_words_and_the_first_letter_alone() -> None:
    rng = random.Random(4)
    assert with_typing_error("a cat on a cow", rng) == "a cat on a cow"
    for _ in range(300):
        wrong = misspelt("elephant", rng)
        assert wrong[0] == "e"
        assert abs(len(wrong) - len("elephant")) <= 1


def test_a_typing_error_never_makes_another_word_of_the_vocabulary() -> None:
    rng = random.Random(5)
    known = {word for words in SUBJECT_WORDS.values() for word in words} | set(SUBJECT_WORDS)
    for name in (name for name in known if " " not in name):
        for _ in range(20):
            made = with_typing_error(name, rng)
            assert made == name or made not in known


def test_real_prompts_expect_captions_and_are_not_made_by_the_generator() -> None:
    made = {text.lower() for text, _ in some_pairs(31_000_001, 20_000)}
    assert len(REAL_PROMPTS) >= 40
    for prompt, expected in REAL_PROMPTS:
        assert is_caption(expected), expected
        assert prompt.lower() not in made
