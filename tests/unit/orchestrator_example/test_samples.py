"""The sample graphs are drawn as the documentation says."""

from importlib.metadata import entry_points
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.megaservice import StageReport, StageStatus
from node.component import ENTRY_POINT_GROUP
from orchestrator_example.mapping import RefusedParameter, stage_request
from orchestrator_example.megaservice import MegaService
from orchestrator_example.samples import (
    BestOf,
    BestOfRequest,
    ChatPainter,
    CheckedPainter,
    Painter,
    Repainter,
    RepaintRequest,
    best_of,
)

SAMPLES = [Painter, CheckedPainter, BestOf, Repainter, ChatPainter]


@pytest.mark.parametrize("sample", SAMPLES)
def test_each_is_served_under_its_own_name(sample: type[MegaService]) -> None:
    (point,) = entry_points(group=ENTRY_POINT_GROUP, name=sample.name)
    assert point.load() is sample
    assert sample.graph.order()


def made(sample: type[MegaService], stage: str, request: Any, **answers: Any) -> dict[str, Any]:
    document = request.model_dump(mode="json")
    return stage_request(sample.graph, sample.graph.stage(stage), document, answers)


def test_candidates_get_seeds_one_after_the_other_or_random_ones() -> None:
    seeds = [
        made(BestOf, f"text2image-{n}", BestOfRequest(prompt="x", seed=5)).get("seed")
        for n in range(4)
    ]
    assert seeds == [5, 6, 7, 8]
    assert "seed" not in made(BestOf, "text2image-0", BestOfRequest(prompt="x"))


def test_the_captioner_sees_every_candidate_that_was_painted_and_the_written_prompt() -> None:
    answers = {
        "prompt-writer": {"text": "written"},
        "text2image-0": {"images": [{"seed": 5}]},
        "text2image-2": {"images": [{"seed": 7}]},
    }
    request = made(BestOf, "captioner", BestOfRequest(prompt="x"), **answers)
    assert request == {"prompt": "written", "images": [{"seed": 5}, {"seed": 7}]}


def report(**output: Any) -> StageReport:
    return StageReport(service="s", status=StageStatus.SUCCEEDED, output=output)


@pytest.mark.parametrize(
    ("best", "chosen"),
    [
        (0, "text2image-0"),
        (1, "text2image-2"),
        *((odd, "text2image-0") for odd in (None, "1", -1, 2, 1.5, {}, [1])),
    ],
)
def test_the_picture_that_was_picked_is_the_one_that_the_chain_ends_with(
    best: Any, chosen: str
) -> None:
    reports = {
        "text2image-0": report(images=[1]),
        "text2image-1": StageReport(service="s", status=StageStatus.SKIPPED),
        "text2image-2": report(images=[2]),
        "captioner": report(best=best),
    }
    assert BestOf.chosen(object.__new__(BestOf), reports) == [chosen]


def test_the_pick_is_the_same_picture_for_the_captioner_and_the_chain_when_there_are_many() -> None:
    class BestOfTwelve(BestOf):
        graph = best_of(12)

    reports = {f"text2image-{number}": report(images=[number]) for number in range(12)}
    reports["captioner"] = report(best=2)
    assert BestOfTwelve.chosen(object.__new__(BestOfTwelve), reports) == ["text2image-2"]


@pytest.mark.parametrize(
    ("sample", "stage", "request_", "field"),
    [
        (BestOf, "text2image-1", BestOfRequest(prompt="x", seed=5), "seed"),
        (Repainter, "image2image", RepaintRequest(prompt="x", repaint="y"), "strength"),
    ],
)
def test_a_parameter_that_the_request_has_a_field_for_is_not_overwritten_in_silence(
    sample: type[MegaService], stage: str, request_: Any, field: str
) -> None:
    given = request_.model_copy(update={"parameters": {stage: {field: 7}}})
    with pytest.raises(RefusedParameter, match=f"'{field}' of stage '{stage}'"):
        made(sample, stage, given, text2image={"images": [1]}, **{"prompt-writer": {"text": "t"}})


def test_a_picture_is_painted_over_with_words_of_its_own() -> None:
    request = RepaintRequest(prompt="a cat", repaint="a dog", strength=0.3)
    over = made(Repainter, "image2image", request, text2image={"images": [{"seed": 1}]})
    assert over == {"prompt": "a dog", "strength": 0.3, "image": {"seed": 1}}
    with pytest.raises(ValidationError):
        RepaintRequest(prompt="a cat")


@pytest.mark.parametrize(("matches", "again"), [(True, False), (False, True), (None, False)])
def test_only_a_rejected_picture_is_painted_again(matches: bool | None, again: bool) -> None:
    (repeat,) = CheckedPainter.graph.repeats
    assert callable(repeat.until)
    assert repeat.until({"matches": matches}) is not again
    assert repeat.times == 1
