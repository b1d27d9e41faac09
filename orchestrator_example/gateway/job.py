"""A job as the gateway knows it."""

import asyncio
import time
from enum import StrEnum
from uuid import uuid4

from contracts.events import AcceptedEvent, JobEvent, ProgressEvent, StageEvent, TerminalEvent
from contracts.message import Message
from contracts.result import JobResult
from node.watches import terminal_event
from orchestrator_example.gateway.feed import JobFeed


class JobState(StrEnum):
    """Where a job is: it waits, runs, or ended in one of four ways."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Job:
    """One request of a caller. Only the desk changes it; doors read it.

    `keeps_on`: it is nobody's to cancel by hanging up. `deadline` is in Unix seconds.
    """

    def __init__(
        self,
        service: str,
        request: Message,
        owner: str,
        *,
        job_id: str | None = None,
        deadline: float | None = None,
        priority: int = 0,
        keeps_on: bool = False,
        submitted_at: float | None = None,
    ) -> None:
        self.id = job_id or uuid4().hex
        self.service = service
        self.request = request
        self.owner = owner
        self.deadline = deadline
        self.priority = priority
        self.keeps_on = keeps_on
        self.submitted_at = time.time() if submitted_at is None else submitted_at
        self.state = JobState.QUEUED
        self.progress: ProgressEvent | StageEvent | None = None
        self.feed = JobFeed()
        self.result: JobResult | None = None
        self.cancel_requested = False
        self.attendants = 0
        """How many calls wait for it."""
        self.taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the broker has it, or refused it."""
        self.ended = asyncio.Event()
        self.ended_at: float | None = None
        self.refusal: BaseException | None = None
        """Why nobody took it."""
        self._terminal_was_told = False

    def tell(self, event: JobEvent) -> None:
        """Take in an event of the job."""
        if isinstance(event, AcceptedEvent):
            self.progress = None
        elif isinstance(event, TerminalEvent):
            self._terminal_was_told = True
        else:
            self.state = JobState.RUNNING
        if isinstance(event, ProgressEvent | StageEvent):
            self.progress = event
        self.feed.add(event)

    def end(self, result: JobResult) -> None:
        """Take in the result."""
        self.result = result
        self.state = JobState(result.status.value)
        self.progress = None
        if not self._terminal_was_told:
            self.feed.add(terminal_event(result))
        self.feed.close()
        self.ended_at = time.time()
        self.ended.set()

    def refuse(self, error: BaseException) -> None:
        """Tell everybody who waits that it will have no result."""
        self.refusal = error
        if not self.taken.done():
            self.taken.set_exception(error)
            self.taken.exception()  # that nobody waits is no fault
        self.feed.close()
        self.ended.set()

    @property
    def num_bytes(self) -> int:
        """What its pictures take."""
        images = getattr(self.result, "images", None) or []
        return sum(len(getattr(image, "b64_json", None) or "") for image in images)
