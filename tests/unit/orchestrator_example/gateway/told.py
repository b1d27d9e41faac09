"""Jobs, events and results for tests of the gateway."""

from typing import Any

from contracts import examples
from contracts.events import (
    AcceptedEvent,
    ImageEvent,
    JobEvent,
    PreviewEvent,
    ProgressEvent,
    StageEvent,
    StartedEvent,
)
from contracts.result import Status
from contracts.text2image import TEXT2IMAGE, GeneratedImage, Text2ImageRequest, Text2ImageResult
from orchestrator_example.gateway.job import Job

ABOUT: dict[str, Any] = {"job_id": "j", "sequence": 1, "time": examples.TIME}

ACCEPTED = AcceptedEvent(**ABOUT)
STARTED = StartedEvent(**ABOUT)
IMAGE = ImageEvent(**ABOUT, **examples.IMAGE)


def progress(step: int) -> ProgressEvent:
    return ProgressEvent(**ABOUT, step=step, num_inference_steps=4, fraction=step / 4)


def preview(data: str = "aGk=") -> PreviewEvent:
    return PreviewEvent(**ABOUT, step=1, b64_json=data, media_type="image/png")


def stage(name: str, event: JobEvent) -> StageEvent:
    return StageEvent.model_validate(
        {**ABOUT, "stage": name, "attempt": 1, "fraction": 0.5, "stage_event": event}
    )


def job(job_id: str | None = None, prompt: str = "a cat", **given: Any) -> Job:
    return Job(TEXT2IMAGE, Text2ImageRequest(prompt=prompt), "somebody", job_id=job_id, **given)


def result(status: Status = Status.SUCCEEDED, *, images: int = 1, **given: Any) -> Text2ImageResult:
    made = [GeneratedImage(**examples.IMAGE)] * images
    return Text2ImageResult(job_id="j", status=status, images=made, **given)
