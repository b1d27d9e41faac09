"""Jobs as HTTP shows them."""

from typing import Any

from fastapi import Request
from pydantic import Field, SerializeAsAny

from contracts import examples
from contracts.events import ProgressEvent, StageEvent
from contracts.failure import Problem
from contracts.message import Message, example, format_time
from contracts.result import JobResult
from contracts.text2image import TEXT2IMAGE, GeneratedImage
from orchestrator_example.gateway.desk import JobDesk
from orchestrator_example.gateway.job import Job, JobState
from orchestrator_example.gateway.links import Links

MAX_PRIORITY = 9
MAX_DEADLINE_SECONDS = 30 * 86400.0


class JobSubmission(Message):
    """A request to one of the services behind this gateway."""

    model_config = example(service=TEXT2IMAGE, request={"prompt": examples.PROMPT, "seed": 42})

    service: str = Field(default=TEXT2IMAGE, examples=[TEXT2IMAGE])
    """Which service; `GET /v1/services` lists them."""
    request: dict[str, Any] = Field(examples=[{"prompt": examples.PROMPT}])
    """The request, in the service's own words."""
    deadline_seconds: float | None = Field(
        default=None, gt=0, le=MAX_DEADLINE_SECONDS, examples=[600]
    )
    """From now until it is too late; none: it has all the time."""
    priority: int = Field(default=0, ge=0, le=MAX_PRIORITY)
    """From 5 on it goes before those with less."""


class JobProgress(Message):
    """How far a running job is."""

    stage: str | None = Field(default=None, examples=["text2image"])
    """The stage of a mega-service that told something last."""
    fraction: float = Field(ge=0, le=1, examples=[0.2])
    """Share of the inference steps that is done; of a mega-service, of its stages."""
    step: int | None = Field(default=None, examples=[5])
    """Inference steps done."""
    num_inference_steps: int | None = Field(default=None, examples=[25])
    """Inference steps in all."""


class JobView(Message):
    """Where a job is."""

    id: str = Field(examples=[examples.JOB_ID])
    """Id of the job."""
    service: str = Field(examples=[TEXT2IMAGE])
    """Which service does it."""
    status: JobState = Field(examples=["running"])
    """Whether it waits, runs, or how it ended."""
    submitted: str = Field(examples=[examples.TIME])
    """When it was, RFC 3339."""
    cancel_requested: bool = False
    """Whether it was asked to stop."""
    queue_position: int | None = Field(default=None, ge=0, examples=[3])
    """Jobs that are ahead of it, estimated; null when it does not wait."""
    eta_seconds: float | None = Field(default=None, ge=0, examples=[12.5])
    """Time until it is done, estimated; null when unknown."""
    progress: JobProgress | None = None
    """How far it is; null unless it runs."""
    result: SerializeAsAny[JobResult] | None = None
    """What the service answered; null until it has ended."""
    error: Problem | None = None
    """Why it did not succeed."""
    image_urls: list[str] = Field(default_factory=list)
    """The pictures as files, by links that need no key and work for a while."""


class JobList(Message):
    """The caller's jobs, the latest first, without their results."""

    jobs: list[JobView]
    """At most a hundred."""


class ServiceView(Message):
    """A service that jobs may go to."""

    name: str = Field(examples=[TEXT2IMAGE])
    """Name to put into `service`."""
    description: str
    """What it does."""
    instances: int = Field(ge=0, examples=[2])
    """How many are there now."""
    request_schema: dict[str, Any]
    """JSON Schema of its requests."""


class ServiceList(Message):
    """The services behind this gateway."""

    services: list[ServiceView]


def image_urls(job: Job, links: Links, request: Request) -> list[str]:
    """Link to the pictures of a job."""
    public_url = request.app.state.settings.public_url or str(request.base_url)
    return [
        public_url.rstrip("/") + links.path(job.id, position)
        for position, _ in enumerate(images_of(job))
    ]


def images_of(job: Job) -> list[GeneratedImage]:
    """List the pictures that a job ended with."""
    images = getattr(job.result, "images", None) or []
    return [image for image in images if isinstance(image, GeneratedImage)]


def view_of(desk: JobDesk, job: Job, links: Links, request: Request) -> JobView:
    """Show where a job is."""
    position, eta_seconds = desk.outlook(job)
    if isinstance(job.progress, ProgressEvent):
        eta_seconds = job.progress.eta_seconds
    return JobView(
        id=job.id,
        service=job.service,
        status=job.state,
        submitted=format_time(job.submitted_at),
        cancel_requested=job.cancel_requested,
        queue_position=position,
        eta_seconds=eta_seconds,
        progress=_progress(job.progress),
        result=job.result,
        error=job.result.error if job.result else None,
        image_urls=image_urls(job, links, request),
    )


def _progress(event: ProgressEvent | StageEvent | None) -> JobProgress | None:
    if event is None:
        return None
    if isinstance(event, StageEvent):
        return JobProgress(stage=event.stage, fraction=event.fraction)
    return JobProgress(
        fraction=event.fraction, step=event.step, num_inference_steps=event.num_inference_steps
    )
