"""A request to a mega-service, and its result: what every stage of the chain did."""

from enum import StrEnum
from typing import Any, Final

from pydantic import Field

from contracts import examples
from contracts.failure import Problem
from contracts.message import Message, Metadata, example
from contracts.result import JobResult
from contracts.text2image import GeneratedImage, Prompt

MEGASERVICE: Final = "megaservice"
"""Name of the mega-service that is not given another one."""


class MegaServiceRequest(Message):
    """What a caller wants of the whole chain; `{"prompt": "..."}` is enough."""

    model_config = example(
        prompt=examples.PROMPT, parameters={"text2image": {"seed": 42, "num_inference_steps": 20}}
    )

    prompt: Prompt = Field(examples=[examples.PROMPT])
    """What the chain begins with."""
    parameters: dict[str, dict[str, Any]] = Field(default_factory=dict, max_length=64)
    """Fields of the requests to single stages, by the stage's name."""
    metadata: Metadata = Field(default_factory=dict)


class StageStatus(StrEnum):
    """How a stage ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    SUBSTITUTED = "substituted"
    """It failed, and what the graph gives instead went on."""
    SKIPPED = "skipped"
    """It failed, and the chain went on without it."""
    NOT_TAKEN = "not_taken"
    """No flow led to it."""


_REPORT: Final = {
    "service": "prompt-writer",
    "status": "succeeded",
    "job_id": f"{examples.JOB_ID}:prompt-writer:1:5f1a20bc",
    "attempts": 1,
    "seconds": 0.4,
    "output": {"text": "a rocket on a green horse"},
}


class StageReport(Message):
    """What became of one stage. Bytes of images are not here but in the result's `images`."""

    model_config = example(**_REPORT)

    service: str = Field(examples=["prompt-writer"])
    """Service that did the work: the stage's own, or its fallback."""
    status: StageStatus = Field(examples=["succeeded"])
    """How the stage ended."""
    job_id: str | None = Field(default=None, examples=[_REPORT["job_id"]])
    """Id of the stage's latest job; null when there was none."""
    attempts: int = Field(default=0, ge=0, examples=[1])
    """How many jobs the stage took in this chain, repeats included."""
    seconds: float = Field(default=0.0, ge=0, examples=[0.4])
    """From the stage's beginning to its end, as this orchestrator saw it."""
    output: dict[str, Any] = Field(default_factory=dict)
    """What the stage's service answered."""
    warnings: list[str] = Field(default_factory=list)
    """What the stage's service changed or could not honour, in words."""
    error: Problem | None = None
    """Why the stage failed."""
    reason: str | None = None
    """Why the stage was not taken."""


class MegaServiceResult(JobResult):
    """The outcome of a chain: every stage's report, also when the chain did not succeed."""

    model_config = example(
        job_id=examples.JOB_ID,
        status="succeeded",
        stages={"prompt-writer": _REPORT},
        images=[examples.IMAGE],
    )

    stages: dict[str, StageReport] = Field(default_factory=dict)
    """What became of each stage that was begun or passed over, by its name."""
    images: list[GeneratedImage] = Field(default_factory=list)
    """The pictures that the chain ends with."""
    drafts: list[GeneratedImage] = Field(default_factory=list)
    """Every other picture of a stage that is reported, once."""
