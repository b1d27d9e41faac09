"""What is known of the queues that jobs wait in."""

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

import structlog

from contracts.message import HIGH_PRIORITY
from contracts.topology import high_queue, model_queue
from node.discovery.directory import ServiceDirectory
from node.errors import MessagingError
from node.ports import Broker
from node.submission import named_model
from orchestrator_example.gateway.job import Job, JobState
from orchestrator_example.gateway.outlook import Line, eta_seconds, fleet_of

LOOK_SECONDS: Final = 1.0
LOOK_TIMEOUT_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Waiting:
    """A queue, our own jobs in it by their tickets, and what the broker said last."""

    line: Line = field(default_factory=Line)
    tickets: dict[str, int] = field(default_factory=dict)
    depth: int = 0
    looked_at: float = float("-inf")
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Queues:
    """Looks at queues while jobs of ours wait in them."""

    def __init__(self, broker: Broker, directory: ServiceDirectory) -> None:
        self._broker = broker
        self._directory = directory
        self._waiting: defaultdict[str, _Waiting] = defaultdict(_Waiting)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for name, waiting in list(self._waiting.items()):
                if waiting.tickets:
                    await self._look(name, waiting)
                elif not waiting.looking.locked():
                    # Callers name models, and so queues: as many as they like.
                    del self._waiting[name]

    async def join(self, job: Job) -> None:
        """Note that a job is about to enter its queue."""
        name = _queue_of(job)
        waiting = self._waiting[name]
        await self._look(name, waiting)
        fleet = fleet_of(self._directory.services(), job.service)
        waiting.tickets[job.id] = waiting.line.join(waiting.depth + fleet.waiting)

    def note(self, job: Job) -> None:
        """Note that a job may have left its queue."""
        if job.state is not JobState.QUEUED:
            self.leave(job)

    def leave(self, job: Job) -> None:
        """Note that a job is not in its queue any more."""
        waiting = self._waiting.get(_queue_of(job))
        ticket = waiting.tickets.pop(job.id, None) if waiting else None
        if waiting is not None and ticket is not None:
            waiting.line.began(ticket)

    def outlook(self, job: Job) -> tuple[int | None, float | None]:
        """Estimate the jobs ahead of one that waits, and the seconds until it is done.

        Both None when it does not wait, the seconds also while no instance tells its pace.
        """
        waiting = self._waiting.get(_queue_of(job))
        ticket = waiting.tickets.get(job.id) if waiting else None
        if waiting is None or ticket is None:
            return None, None
        fleet = fleet_of(self._directory.services(), job.service)
        # What was seen before the job came says nothing about it.
        is_fresh = waiting.looked_at > job.submitted_at + LOOK_SECONDS
        ahead = waiting.line.ahead(ticket, waiting.depth + fleet.waiting if is_fresh else None)
        images = getattr(job.request, "num_images_per_prompt", 1)
        return ahead, eta_seconds(fleet, ahead, images)

    async def _look(self, name: str, waiting: _Waiting) -> None:
        async with waiting.looking:
            seen_lately = time.time() < waiting.looked_at + LOOK_SECONDS / 2
            if seen_lately or not self._broker.connected():
                return
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_SECONDS):
                    waiting.depth = (await self._broker.depth(name)).messages
            except (MessagingError, TimeoutError) as error:
                # It is an estimate: the submission itself tells what is wrong.
                log.debug("queue.not_seen", queue=name, reason=str(error))
            waiting.looked_at = time.time()


def _queue_of(job: Job) -> str:
    model = named_model(job.request)
    if model is not None:
        return model_queue(job.service, model)
    return high_queue(job.service) if job.priority >= HIGH_PRIORITY else job.service
