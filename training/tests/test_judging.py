"""A picture is right in a category when the judge reads what the prompt asked."""

from training.captions import is_caption
from training.judging import Prompt, evaluation_prompts, shares, verdict
from training.labels import labels_of
from training.scenes import HEADLINE, Item, Relation, Scene, is_held_out

BESIDE = Scene((Item("cat", "red"), Item("dog")), relation=Relation.NEXT_TO)


def test_what_was_asked_is_right_in_every_category() -> None:
    assert set(verdict(HEADLINE, labels_of(HEADLINE)).values()) == {True}


def test_one_wrong_subject_is_wrong_for_the_pair_and_for_everything() -> None:
    read = labels_of(HEADLINE) | {"second_subject": "cow"}
    right = verdict(HEADLINE, read)
    assert not right["subject"]
    assert not right["everything"]
    assert right["colour"]
    assert right["relation"]


def test_next_to_has_no_order() -> None:
    turned = Scene((Item("dog"), Item("cat", "red")), relation=Relation.NEXT_TO)
    assert all(verdict(BESIDE, labels_of(turned)).values())


def test_riding_has_an_order() -> None:
    turned = Scene((Item("horse", "green"), Item("astronaut")), relation=Relation.RIDING)
    assert not verdict(HEADLINE, labels_of(turned))["subject"]


def test_a_colour_is_judged_only_where_one_was_asked() -> None:
    assert "colour" not in verdict(Scene((Item("cat"),)), labels_of(Scene((Item("cat", "red"),))))


def test_a_count_is_wrong_where_the_judge_sees_a_pair() -> None:
    assert not verdict(Scene((Item("cat"),), count=2), labels_of(BESIDE))["count"]


def test_prompts_are_the_same_every_time_and_held_out_where_they_say_so() -> None:
    prompts = evaluation_prompts(5)
    assert prompts == evaluation_prompts(5)
    assert len(prompts) == 9 * 5
    for prompt in prompts:
        assert is_held_out(prompt.scene) == prompt.group.endswith("_held_out")


def test_a_subset_has_the_first_prompts_of_every_group() -> None:
    few, many = ([p for p in evaluation_prompts(n) if p.group == "counted"] for n in (2, 6))
    assert few == many[:2]


def test_shares_are_counted_per_group_and_split() -> None:
    prompts = [Prompt("riding_held_out", HEADLINE, ""), Prompt("next_to_seen", BESIDE, "")]
    reads = [labels_of(HEADLINE), labels_of(BESIDE) | {"background": "black"}]
    table = shares(prompts, reads)
    assert table["held_out_pairs"]["background"] == {"share": 1.0, "of": 1}  # type: ignore[index]
    assert table["seen_pairs"]["background"] == {"share": 0.0, "of": 1}  # type: ignore[index]
    assert table["all"]["subject"] == {"share": 1.0, "of": 2}  # type: ignore[index]


def test_captions_are_told_from_other_texts() -> None:
    right = (
        "an astronaut riding a green horse",
        "two red apples on a blue background",
        "a big cat",
    )
    assert [is_caption(text) for text in right] == [True, True, False]
    for wrong in ("", "a", "an robot", "a apple", "a robot riding", "two robot", "A robot"):
        assert not is_caption(wrong), wrong
