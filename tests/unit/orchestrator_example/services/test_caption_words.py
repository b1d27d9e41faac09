"""What a prompt asks for, and how well what was seen is that."""

import json
from typing import Any

import pytest

from node.inference.offers import SHIPPED_FOLDER
from orchestrator_example.services.caption_judging import best, most_likely, score
from orchestrator_example.services.caption_words import (
    Asked,
    Thing,
    Vocabulary,
    caption,
    plural,
    read_prompt,
)

PROMPT = "an astronaut riding a green horse"
LABELS = json.loads((SHIPPED_FOLDER.parent / "emoji-captioner" / "config.json").read_text())


def heads() -> dict[str, list[str]]:
    """The heads of the shipped model, read from its config."""
    classes: dict[str, list[str]] = {}
    for label in LABELS["id2label"].values():
        head, _, name = label.partition(":")
        classes.setdefault(head, []).append(name)
    return classes


WORDS = Vocabulary.of(heads())


def seen(sure: float = 1.0, **chosen: str) -> dict[str, dict[str, float]]:
    """What a captioner sees that is so sure of each choice."""
    plain = {
        "first_subject": "robot",
        "first_tint": "natural",
        "second_subject": "none",
        "second_tint": "none",
        "background": "white",
        "count": "1",
        "relation": "none",
        "size": "normal",
    }
    return {head: {name: sure} for head, name in (plain | chosen).items()}


def pair(relation: str, **chosen: str) -> dict[str, dict[str, float]]:
    given = {"first_subject": "astronaut", "second_subject": "horse", "second_tint": "green"}
    return seen(relation=relation, **given | chosen)


def test_a_prompt_is_read_into_what_it_asks_for() -> None:
    asked = read_prompt("A red panda riding a green horse on a black background", WORDS)
    things = (Thing("panda", "red"), Thing("horse", "green"))
    assert asked == Asked(things, relation="riding", background="black")


@pytest.mark.parametrize(
    ("prompt", "things", "said"),
    [
        ("a robot", [("robot", None)], {"count": "1", "relation": "none"}),
        ("ROBOTS.", [("robot", None)], {"relation": "none"}),
        ("two pink butterflies", [("butterfly", "pink")], {"count": "2", "relation": "none"}),
        ("3 snowmen", [("snowman", None)], {"count": "3", "relation": "none"}),
        (
            "an image of a big grey car, blue background",
            [("car", "gray")],
            {"count": "1", "relation": "none", "size": "large", "background": "blue"},
        ),
        ("a cat on the back of a pig", [("cat", None), ("pig", None)], {"relation": "riding"}),
        ("a cat beside a pig", [("cat", None), ("pig", None)], {"relation": "next to"}),
        ("an orange over an apple", [("apple", None)], {"relation": "above", "count": "1"}),
        ("a cat on top of a blue car", [("cat", None), ("car", "blue")], {"relation": "above"}),
        ("a cat and a dog", [("cat", None), ("dog", None)], {}),
        ("on a grey background", [], {"background": "gray"}),
    ],
)
def test_a_prompt_says(
    prompt: str, things: list[tuple[str, str | None]], said: dict[str, str]
) -> None:
    asked = read_prompt(prompt, WORDS)
    assert [(thing.subject, thing.tint) for thing in asked.things] == things
    fields = {
        name: getattr(asked, name)
        for name in ("count", "relation", "size", "background")
        if getattr(asked, name) is not None
    }
    assert fields == said


@pytest.mark.parametrize(
    ("prompt", "unread"),
    [
        ("a knight near a fluffy cat", ("knight", "near", "fluffy")),
        ("a cat, a dog and a robot", ("robot",)),
        ("a white horse", ("white",)),
        ("a horse in front of a teal background", ("teal", "background")),
        ("a picture of a cat against a red background", ()),
    ],
)
def test_words_that_no_head_can_tell_are_set_aside(prompt: str, unread: tuple[str, ...]) -> None:
    assert read_prompt(prompt, WORDS).unread == unread


def test_a_prompt_of_unknown_words_asks_for_nothing() -> None:
    assert read_prompt("a knight riding a unicorn", WORDS).is_empty
    assert read_prompt("", WORDS).is_empty


@pytest.mark.parametrize(
    ("noun", "several"),
    [
        ("cat", "cats"),
        ("butterfly", "butterflies"),
        ("monkey", "monkeys"),
        ("snowman", "snowmen"),
        ("cactus", "cactuses"),
        ("fox", "foxes"),
    ],
)
def test_a_noun_has_a_plural(noun: str, several: str) -> None:
    assert plural(noun) == several


@pytest.mark.parametrize(
    ("prompt", "sight"),
    [
        (PROMPT, pair("riding")),
        (PROMPT, pair("riding", background="pink")),
        (PROMPT, pair("riding", first_tint="red")),
        ("a green horse next to an astronaut", pair("next to")),
        ("an astronaut next to a green horse", pair("next to")),
        ("a knight riding a horse", pair("riding")),
        ("a robot", seen()),
        ("a small robot", seen(size="small")),
        ("three robots on a red background", seen(count="3", background="red")),
    ],
)
def test_all_that_was_asked_for_is_there(prompt: str, sight: Any) -> None:
    assert score(read_prompt(prompt, WORDS), sight) == 1.0


@pytest.mark.parametrize(
    ("prompt", "sight"),
    [
        ("a green horse riding an astronaut", pair("riding")),
        ("a green horse above an astronaut", pair("above")),
        ("a red astronaut next to a horse", pair("next to", first_tint="blue")),
        ("an astronaut next to a green horse", pair("next to", second_tint="natural")),
        (PROMPT, pair("above")),
        (PROMPT, seen(first_subject="astronaut")),
        ("an astronaut", pair("riding")),
        ("a robot", seen(count="2")),
        ("two robots", seen()),
        ("a small robot", seen(size="large")),
        ("a robot on a red background", seen()),
        ("on a red background", seen()),
    ],
)
def test_something_that_was_asked_for_is_missing(prompt: str, sight: Any) -> None:
    assert score(read_prompt(prompt, WORDS), sight) == 0.0


def test_a_picture_is_as_right_as_its_least_certain_part() -> None:
    sight = seen(0.9) | {"background": {"red": 0.3, "white": 0.7}}
    assert score(read_prompt("a robot on a red background", WORDS), sight) == 0.3


def test_nothing_asked_for_is_no_score() -> None:
    assert score(Asked(), seen()) is None


@pytest.mark.parametrize(
    ("scores", "index"),
    [([], None), ([None, None], None), ([0.0], 0), ([0.2, None, 0.9, 0.9], 2), ([None, 0.1], 1)],
)
def test_the_best_score_is_chosen_and_the_first_of_equals(
    scores: list[float | None], index: int | None
) -> None:
    assert best(scores) == index


@pytest.mark.parametrize(
    ("sight", "text"),
    [
        (pair("riding"), "an astronaut riding a green horse on a white background"),
        (seen(size="large", first_tint="orange"), "a large orange robot on a white background"),
        (
            seen(count="2", first_subject="snowman", background="orange"),
            "two snowmen on an orange background",
        ),
        (seen(relation="riding"), "a robot on a white background"),
    ],
)
def test_what_is_seen_is_worded_as_prompts_are(sight: Any, text: str) -> None:
    assert caption(most_likely(sight)) == text
