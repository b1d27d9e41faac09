"""A job as the gateway knows it."""

import asyncio
import time
from enum import StrEnum
from uuid import uuid4

from pydantic_core import PydanticSerializationError

from contracts.events import AcceptedEvent, JobEvent, ProgressEvent, StageEvent, TerminalEvent
from contracts.message import Message
from contracts.result import JobResult
from node.errors import InvalidRequest
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
    """One request of a caller. Only the desk changes it; doors read it. Raises InvalidRequest.

    `keeps_on`: it is done whether or not anybody waits for it. `deadline` is in Unix seconds.
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
        self.has_key = job_id is not None
        """Whether its caller can ask for it again: hanging up may have been an accident then."""
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
        self._last_sequence = 0
        self.result: JobResult | None = None
        self.cancel_requested = False
        self.taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the broker has it, or refused it; of a recorded job, from the start."""
        self.ended = asyncio.Event()
        self.ended_at: float | None = None
        self.refusal: BaseException | None = None
        """Why nobody took it."""
        self.request_bytes = _num_bytes(request)

    def tell(self, event: JobEvent) -> None:
        """Take in an event of the job; the last one is told with the result."""
        if isinstance(event, TerminalEvent):
            return
        if isinstance(event, AcceptedEvent):
            self.progress = None
        else:
            self.state = JobState.RUNNING
        if isinstance(event, ProgressEvent | StageEvent):
            self.progress = event
        self._last_sequence = event.sequence
        self.feed.add(event)

    def take(self) -> None:
        """Tell everybody who waits that it will be done."""
        if not self.taken.done():
            self.taken.set_result(None)

    def end(self, result: JobResult) -> None:
        """Take in the result."""
        self.result = result
        self.state = JobState(result.status.value)
        self.progress = None
        last = terminal_event(result)
        self.feed.add(last.model_copy(update={"sequence": self._last_sequence + 1}))
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
    def was_refused(self) -> bool:
        """Whether nobody took it; otherwise its service does it, whoever waits."""
        return self.taken.done() and self.taken.exception() is not None

    @property
    def num_bytes(self) -> int:
        """What its request, its pictures and its events take."""
        images = getattr(self.result, "images", None) or []
        pictures = sum(len(getattr(image, "b64_json", None) or "") for image in images)
        return self.request_bytes + pictures + self.feed.num_bytes


def _num_bytes(request: Message) -> int:
    try:
        return len(request.to_json())
    except PydanticSerializationError as error:
        # Where any JSON is taken, half a surrogate pair is a text, and nests are without end.
        raise InvalidRequest(f"the request cannot be written as JSON: {error}") from error
