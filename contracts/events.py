"""What a job tells on its way: transient messages on the topic exchange of events."""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from contracts import examples
from contracts.failure import Problem
from contracts.message import Message, example
from contracts.result import Status
from contracts.text2image import GeneratedImage


def _example(event: str, **fields: Any) -> ConfigDict:
    return example(job_id=examples.JOB_ID, sequence=1, time=examples.TIME, event=event, **fields)


class _Event(Message):
    job_id: str = Field(max_length=255, examples=[examples.JOB_ID])
    """Id of the job."""
    sequence: int = Field(ge=1, examples=[1])
    """1, 2, 3 … within one run of the job; a gap means that events were dropped."""
    time: str = Field(examples=[examples.TIME])
    """When it happened, RFC 3339."""


class AcceptedEvent(_Event):
    """The node took the job and will run it."""

    model_config = _example("accepted", attempt=1)

    event: Literal["accepted"] = "accepted"
    """Kind of event."""
    attempt: int = Field(default=1, ge=1, examples=[1])
    """How many times the job has been tried, this one included."""


class StartedEvent(_Event):
    """Work began."""

    model_config = _example("started")

    event: Literal["started"] = "started"
    """Kind of event."""


class ProgressEvent(_Event):
    """An inference step was done; at most four a second for one job."""

    model_config = _example(
        "progress", step=5, num_inference_steps=25, fraction=0.2, eta_seconds=0.8
    )

    event: Literal["progress"] = "progress"
    """Kind of event."""
    step: int = Field(ge=0, examples=[5])
    """Inference steps done."""
    num_inference_steps: int = Field(ge=1, examples=[25])
    """Inference steps in all."""
    fraction: float = Field(ge=0, le=1, examples=[0.2])
    """Share of the inference steps that is done."""
    eta_seconds: float | None = Field(default=None, ge=0, examples=[0.8])
    """Estimated time until the last inference step; null before the first was timed."""


class PreviewEvent(_Event):
    """A rough picture of the unfinished image."""

    model_config = _example("preview", step=5, b64_json="iVBORw0KGgo=", media_type="image/png")

    event: Literal["preview"] = "preview"
    """Kind of event."""
    step: int = Field(ge=0, examples=[5])
    """Inference steps done."""
    b64_json: str = Field(examples=["iVBORw0KGgo="])
    """The preview file in base64."""
    media_type: str = Field(examples=["image/png"])
    """Media type of the file."""


class ImageEvent(_Event, GeneratedImage):
    """One image is finished, while others may still be in the making."""

    model_config = _example("image", **examples.IMAGE)

    event: Literal["image"] = "image"
    """Kind of event."""


class TerminalEvent(_Event):
    """The job ended; the images are in the result, not here."""

    model_config = _example("succeeded", error=None)

    event: Status = Field(examples=["succeeded"])
    """How the job ended."""
    error: Problem | None = None
    """Problem details; null when the job succeeded."""


ServiceEvent = Annotated[
    AcceptedEvent | StartedEvent | ProgressEvent | PreviewEvent | ImageEvent | TerminalEvent,
    Field(union_mode="left_to_right"),
]


class StageEvent(_Event):
    """A stage of a mega-service tells something: its own event, passed on."""

    model_config = _example(
        "stage",
        stage="text2image",
        attempt=1,
        fraction=0.5,
        stage_event={
            "job_id": f"{examples.JOB_ID}:text2image:1",
            "sequence": 2,
            "time": examples.TIME,
            "event": "started",
        },
    )

    event: Literal["stage"] = "stage"
    """Kind of event."""
    stage: str = Field(examples=["text2image"])
    """Name of the stage in its graph."""
    attempt: int = Field(ge=1, examples=[1])
    """How many times the stage was begun in this chain."""
    fraction: float = Field(ge=0, le=1, examples=[0.5])
    """Share of the chain's stages that have ended."""
    stage_event: ServiceEvent
    """What the stage's service told."""


JobEvent = Annotated[ServiceEvent | StageEvent, Field(union_mode="left_to_right")]

EVENT_ADAPTER: Final[TypeAdapter[JobEvent]] = TypeAdapter(JobEvent)
