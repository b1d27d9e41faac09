"""What every service's result has in common: the outcome of one job."""

from enum import StrEnum

from pydantic import ConfigDict, Field

from contracts import examples
from contracts.failure import Problem
from contracts.message import Message, Metadata, example


class Status(StrEnum):
    """How a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class NodeInfo(Message):
    """Which node did the work, and on what."""

    model_config = example(**examples.NODE)

    instance_id: str = Field(examples=["6f1c2a"])
    """Id of the node process."""
    version: str = Field(examples=["0.1.0"])
    """Version of text2image-node."""
    device: str | None = Field(default=None, examples=["cpu"])
    """torch device the model runs on."""
    dtype: str | None = Field(default=None, examples=["float32"])
    """torch dtype of the weights."""


class Timings(Message):
    """Where the time went, in seconds."""

    model_config = example(**examples.TIMINGS)

    queue_seconds: float = Field(default=0.0, ge=0, examples=[0.01])
    """From delivery to the node until work began."""
    load_seconds: float = Field(default=0.0, ge=0)
    """Loading of weights for this job."""
    encode_seconds: float = Field(default=0.0, ge=0)
    """Prompt encoding."""
    denoise_seconds: float = Field(default=0.0, ge=0, examples=[0.9])
    """All inference steps."""
    decode_seconds: float = Field(default=0.0, ge=0, examples=[0.1])
    """From latents to encoded image files."""
    total_seconds: float = Field(default=0.0, ge=0, examples=[1.1])
    """From delivery to the node until the result was ready."""


class JobResult(Message):
    """The one outcome of a job, whatever service did it."""

    model_config = example(job_id=examples.JOB_ID, status="succeeded")

    job_id: str = Field(max_length=255, examples=[examples.JOB_ID])
    """Id of the job, as the caller chose it."""
    status: Status = Field(examples=["succeeded"])
    """How the job ended."""
    warnings: list[str] = Field(default_factory=list)
    """What was changed or could not be honoured, in words."""
    metadata: Metadata = Field(default_factory=dict)
    timings: Timings = Field(default_factory=Timings)
    """Where the time went."""
    node: NodeInfo | None = None
    """Which node did the work."""
    error: Problem | None = None
    """Problem details; null when the job succeeded."""


class AnyResult(JobResult):
    """A result of a service whose own fields are not known here: they pass through."""

    model_config = ConfigDict(
        extra="allow", **example(job_id=examples.JOB_ID, status="succeeded", text="a red cat")
    )
