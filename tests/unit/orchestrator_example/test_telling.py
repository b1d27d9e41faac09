"""What a person is told of a chain: each stage in a line, with what went wrong."""

import pytest

from contracts.events import ProgressEvent, StageEvent, StartedEvent, TerminalEvent
from contracts.failure import FailureCode, Problem
from contracts.megaservice import MegaServiceResult, StageReport, StageStatus
from contracts.result import Status
from orchestrator_example.telling import event_text, is_end, report_lines
from tests.unit.builders import image

HEAD = {"job_id": "chain:stage:1:0", "sequence": 1, "time": "2026-01-31T12:00:00.000Z"}
PROBLEM = Problem.of(FailureCode.GENERATION_FAILED, "it broke", job_id="j", retryable=False)


def told(stage_event: object, attempt: int = 1) -> StageEvent:
    return StageEvent(
        **HEAD, stage="text2image", attempt=attempt, fraction=0.5, stage_event=stage_event
    )


def test_events_are_told_in_a_few_words() -> None:
    step = ProgressEvent(**HEAD, step=3, num_inference_steps=20, fraction=0.15)
    failed = TerminalEvent(**HEAD, event=Status.FAILED, error=PROBLEM)
    assert event_text(told(StartedEvent(**HEAD))) == "text2image: started"
    assert event_text(told(step)) == "text2image: step 3/20"
    assert event_text(told(failed, attempt=2)) == "text2image (attempt 2): failed: it broke"
    assert [is_end(told(each)) for each in (step, failed)] == [False, True]


def test_each_stage_is_a_line_with_its_outcome() -> None:
    picture = image(b"", 0).model_copy(update={"width": 128, "height": 64, "seed": 7}).model_dump()
    stages = {
        "writer": StageReport(
            service="w", status=StageStatus.SUCCEEDED, output={"text": "x" * 100}, attempts=1
        ),
        "painter": StageReport(
            service="p",
            status=StageStatus.SUCCEEDED,
            output={"images": [picture], "matches": False},
            attempts=2,
            seconds=1.5,
        ),
        "judge": StageReport(service="j", status=StageStatus.SKIPPED, error=PROBLEM),
        "last": StageReport(service="l", status=StageStatus.NOT_TAKEN, reason="nobody came"),
    }
    result = MegaServiceResult(job_id="j", status=Status.SUCCEEDED, stages=stages)
    writer, painter, judge, last = report_lines(result)
    assert writer.endswith('x…"')
    assert len(writer) < 110
    assert painter == (
        "painter  ok           1.50 s  128x64 picture, seed 7, does not show the prompt, 2 attempts"
    )
    assert judge.endswith("it broke")
    assert "skipped" in judge
    assert last.endswith("nobody came")


@pytest.mark.parametrize(
    "images", [None, 5, "a.png", ["a.png"], [{"index": 0}], [{"width": 1}], {"0": 1}, [None]]
)
def test_images_that_are_none_are_not_told(images: object) -> None:
    output = {"images": images, "text": "x"}
    stages = {"a": StageReport(service="a", status=StageStatus.SUCCEEDED, output=output)}
    (line,) = report_lines(MegaServiceResult(job_id="j", status=Status.SUCCEEDED, stages=stages))
    assert line.endswith('"x"')
