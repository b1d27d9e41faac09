"""The events of one job: numbered, thinned out, and dropped rather than waited for."""

from collections.abc import Callable
from typing import Any, Final

from contracts.events import (
    AcceptedEvent,
    ImageEvent,
    PreviewEvent,
    ProgressEvent,
    ServiceEvent,
    StageEvent,
    StartedEvent,
    TerminalEvent,
)
from contracts.message import Message, format_time
from contracts.text2image import GeneratedImage
from node.egress.messages import event_message
from node.job import Envelope, Outcome
from node.ports import Clock, Outbox

PROGRESS_INTERVAL_SECONDS: Final = 0.25


class JobEvents:
    """Publishes what happens to one job; every method returns at once."""

    def __init__(self, service: str, envelope: Envelope, outbox: Outbox, clock: Clock) -> None:
        self._service = service
        self._envelope = envelope
        self._outbox = outbox
        self._clock = clock
        self._sequence = 0
        self._started_at: float | None = None
        self._progress_at = float("-inf")

    def accepted(self) -> None:
        """Say that the node will run the job."""
        self._offer(AcceptedEvent, "accepted", attempt=self._envelope.attempt)

    def started(self) -> None:
        """Say that work began."""
        self._started_at = self._clock.monotonic()
        self._offer(StartedEvent, "started")

    def progress(self, step: int, num_inference_steps: int) -> None:
        """Say how far the job is: at most four times a second, the last step always."""
        now = self._clock.monotonic()
        last = step >= num_inference_steps
        if not last and now - self._progress_at < PROGRESS_INTERVAL_SECONDS:
            return
        self._progress_at = now
        eta = None
        if self._started_at is not None and step > 0:
            eta = (now - self._started_at) / step * max(num_inference_steps - step, 0)
        self._offer(
            ProgressEvent,
            "progress",
            step=step,
            num_inference_steps=num_inference_steps,
            fraction=min(step / num_inference_steps, 1.0),
            eta_seconds=None if eta is None else round(eta, 3),
        )

    def preview(self, step: int, b64_json: str, media_type: str) -> None:
        """Show the unfinished image."""
        self._offer(PreviewEvent, "preview", step=step, b64_json=b64_json, media_type=media_type)

    def image(self, image: GeneratedImage) -> None:
        """Show a finished image while others are in the making."""
        self._offer(ImageEvent, "image", **image.model_dump())

    def stage(self, stage: str, attempt: int, fraction: float, event: ServiceEvent) -> None:
        """Pass on what a stage of the job tells."""
        self._offer(
            StageEvent,
            "stage",
            stage=stage,
            attempt=attempt,
            fraction=round(fraction, 3),
            stage_event=event,
        )

    def ended(self, outcome: Outcome) -> None:
        """Say how the job ended."""
        self._offer(TerminalEvent, outcome.status.value, event=outcome.status, error=outcome.error)

    def _offer(self, event_type: Callable[..., Message], kind: str, **fields: Any) -> None:
        self._sequence += 1
        event = event_type(
            job_id=self._envelope.job_id,
            sequence=self._sequence,
            time=format_time(self._clock.time()),
            **fields,
        )
        self._outbox.offer(event_message(self._service, event, kind, self._envelope))
