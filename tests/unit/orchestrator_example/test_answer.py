"""From the reports of the stages to the one result of the caller."""

from typing import Any

from contracts.failure import FailureCode
from contracts.megaservice import MegaServiceResult, StageReport, StageStatus
from contracts.result import Status
from orchestrator_example.answer import answers_of, chain_result, images_of
from orchestrator_example.graph import ServiceGraph
from tests.unit.builders import image
from tests.unit.orchestrator_example.builders import failed, graph, report


def painted(*data: bytes) -> StageReport:
    images = [image(each, index).model_dump(mode="json") for index, each in enumerate(data)]
    return report(images=images, text="painted")


def result(of: ServiceGraph, chosen: list[str] | None = None, **r: StageReport) -> Any:
    return chain_result(of, r, "j", {"album": "space"}, chosen)


LINE = graph("a", "b", "c", flow="a >> b >> c")


def test_the_last_stage_that_made_pictures_gives_those_of_the_chain() -> None:
    made = result(LINE, a=painted(b"draft"), b=painted(b"one", b"two"), c=report(text="caption"))
    assert [each.sha256 for each in made.images] == [image(d).sha256 for d in (b"one", b"two")]
    assert [each.sha256 for each in made.drafts] == [image(b"draft").sha256]
    assert made.metadata == {"album": "space"}
    assert (made.job_id, made.status, made.error) == ("j", Status.SUCCEEDED, None)


def test_pictures_of_parallel_branches_come_in_the_order_of_the_graph() -> None:
    fan_out = graph("a", "left", "right", flow="a >> (left, right)")
    reports = {"right": painted(b"r"), "a": painted(b"a"), "left": painted(b"l")}
    made = result(fan_out, **reports)
    assert [each.sha256 for each in made.images] == [image(b"l").sha256, image(b"r").sha256]
    assert made == result(fan_out, **dict(reversed(reports.items()))), "whichever was first"


def test_a_graph_may_choose_its_pictures() -> None:
    fan_out = graph("a", "left", "right", flow="a >> (left, right)")
    reports = {"a": report(), "left": painted(b"l"), "right": painted(b"r")}
    made = result(fan_out, ["right", "a", "missing"], **reports)
    assert [each.sha256 for each in made.images] == [image(b"r").sha256]
    assert [each.sha256 for each in made.drafts] == [image(b"l").sha256]
    none = result(fan_out, [], **reports)
    assert (none.images, len(none.drafts)) == ([], 2)


def test_the_bytes_of_a_picture_are_in_a_result_once() -> None:
    made = result(LINE, a=painted(b"same"), b=painted(b"same"), c=painted(b"same", b"other"))
    assert len(made.images) == 2
    assert made.drafts == []
    text = made.to_json().decode()
    for data in (b"same", b"other"):
        assert text.count(str(image(data).b64_json)) == 1
    output = made.stages["a"].output
    assert output["text"] == "painted"
    assert output["images"][0]["b64_json"] is None
    assert output["images"][0]["sha256"] == image(b"same").sha256


def test_what_each_stage_answered_can_be_had_back_with_its_pictures() -> None:
    reports = {"a": painted(b"draft"), "b": painted(b"one"), "c": report(text="caption")}
    made: MegaServiceResult = result(LINE, **reports)
    assert answers_of(made) == {name: each.output for name, each in reports.items()}
    partly = result(LINE, a=painted(b"draft"), b=failed())
    assert answers_of(partly).keys() == {"a"}


def test_a_chain_that_failed_reports_what_was_done_in_the_order_of_the_graph() -> None:
    made = result(LINE, b=failed(FailureCode.SAFETY_REFUSED), a=painted(b"one"))
    assert made.status is Status.FAILED
    assert made.error.code is FailureCode.SAFETY_REFUSED
    assert list(made.stages) == ["a", "b"]
    assert [each.sha256 for each in made.images] == [image(b"one").sha256]


def test_an_answer_still_not_as_wanted_is_a_warning() -> None:
    judged = LINE.repeat("a", "b", {"good": True})
    made = result(judged, a=report(), b=report(good=False), c=report(StageStatus.NOT_TAKEN))
    assert len(made.warnings) == 1
    assert made.status is Status.SUCCEEDED


def test_what_is_called_images_and_is_something_else_is_left_alone() -> None:
    for images in (5, ["bytes"], [{"b64_json": "x"}], None, {"0": 1}):
        assert images_of({"images": images}) == []
        made = result(graph("a"), a=report(images=images))
        assert made.images == []
        assert made.stages["a"].output == {"images": images}


def test_drafts_of_a_chain_within_a_chain_keep_no_bytes_in_the_report() -> None:
    draft, last = (image(each).model_dump(mode="json") for each in (b"draft", b"last"))
    made = result(graph("inner"), inner=report(images=[last], drafts=[draft]))
    assert [each.sha256 for each in made.images] == [last["sha256"]]
    assert [each.sha256 for each in made.drafts] == [draft["sha256"]]
    output = made.stages["inner"].output
    assert [each["b64_json"] for each in output["images"] + output["drafts"]] == [None, None]
    for each in (draft, last):
        assert made.to_json().decode().count(each["b64_json"]) == 1
    assert answers_of(made)["inner"] == {"images": [last], "drafts": [draft]}


def test_warnings_of_stages_carry_their_names_in_the_order_of_the_graph() -> None:
    warned = report().model_copy(update={"warnings": ["it was ignored"]})
    made = result(LINE, b=warned, a=warned, c=report())
    assert made.warnings == ["a: it was ignored", "b: it was ignored"]
    assert made.stages["a"].warnings == ["it was ignored"]
