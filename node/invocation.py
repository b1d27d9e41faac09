"""A running job as its component sees it: stop requests in, progress out, from any thread."""

import asyncio
import base64
from collections.abc import Callable
from functools import partial
from typing import Any

from contracts.events import ServiceEvent
from contracts.result import Status
from contracts.text2image import GeneratedImage
from node.component import JobContext
from node.egress.events import JobEvents
from node.job import Job
from node.ports import Clock


class RunningJob:
    """Implements `component.Invocation`.

    `_stop` is written on the event loop and read by the component's thread, `sign_of_life_at`
    (monotonic seconds) the other way round; each is a single reference, so that a reader sees the
    old or the new value, never half of one. All else stays on the event loop.
    """

    def __init__(self, job: Job, events: JobEvents, clock: Clock) -> None:
        self._job = job
        self._events = events
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._stop: Status | None = None
        self.cancelled = False
        self.handed_back = False
        self.sign_of_life_at = clock.monotonic()

    @property
    def job_id(self) -> str:
        return self._job.id

    @property
    def context(self) -> JobContext:
        job = self._job
        return JobContext(job.priority, job.deadline, job.replay, job.envelope.headers)

    def stop_requested(self) -> Status | None:
        """Say whether the job must stop, and as what. Who asks is alive."""
        self.sign_of_life_at = self._clock.monotonic()
        if self._stop is not None:
            return self._stop
        deadline = self._job.deadline
        return Status.EXPIRED if deadline is not None and self._clock.time() >= deadline else None

    def cancel(self) -> None:
        """Ask the job to stop before its next inference step."""
        self._stop = Status.CANCELLED
        self.cancelled = True
        self.handed_back = False

    def hand_back(self) -> None:
        """Ask the job to stop, so that another node can do it instead."""
        self.handed_back = not self.cancelled
        self._stop = Status.CANCELLED

    def inference_step(self, step: int, num_inference_steps: int) -> None:
        """Report progress."""
        self._soon(partial(self._events.progress, step, num_inference_steps))

    def preview(self, step: int, data: bytes, media_type: str) -> None:
        """Publish a preview."""
        encoded = base64.b64encode(data).decode()
        self._soon(partial(self._events.preview, step, encoded, media_type))

    def image(self, image: GeneratedImage) -> None:
        """Publish a finished image."""
        self._soon(partial(self._events.image, image))

    def stage(self, stage: str, attempt: int, fraction: float, event: ServiceEvent) -> None:
        """Publish an event of a job that this one waits for."""
        self._soon(partial(self._events.stage, stage, attempt, fraction, event))

    def _soon(self, call: Callable[[], Any]) -> None:
        self.sign_of_life_at = self._clock.monotonic()
        self._loop.call_soon_threadsafe(call)
