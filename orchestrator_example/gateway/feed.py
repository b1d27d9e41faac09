"""The events of one job, for any number of readers, each at its own pace."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from contracts.events import ImageEvent, JobEvent, PreviewEvent, ProgressEvent, StageEvent

MAX_EVENTS: Final = 512
MAX_BYTES: Final = 32 * 1024 * 1024
"""More than a job tells, previews and images included, unless it is begun again and again."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event and its number among those of its job, from 1."""

    number: int
    event: JobEvent


class JobFeed:
    """Keeps what a reader who comes late, or comes back, has to know.

    Of progress that is the latest alone, so that a slow reader skips what is out of date, and no
    reader makes anybody wait.
    """

    def __init__(self) -> None:
        self._kept: list[Numbered] = []
        self._count = 0
        self._name = uuid4().hex[:8]
        self.num_bytes = 0
        """What the pictures in its events take."""
        self._news = asyncio.Event()
        self._closed = False

    def add(self, event: JobEvent) -> None:
        """Take in the next event."""
        self._count += 1
        if (subject := _progress_of(event)) is not None:
            self._kept = [each for each in self._kept if _progress_of(each.event) != subject]
        self._kept.append(Numbered(self._count, event))
        self.num_bytes += _size(event)
        while len(self._kept) > MAX_EVENTS or self.num_bytes > MAX_BYTES:
            self.num_bytes -= _size(self._kept.pop(0).event)
        self._tell()

    def close(self) -> None:
        """End every reader, once it has read what there is."""
        self._closed = True
        self._tell()

    def mark(self, number: int) -> str:
        """Write a number for a reader who may come back: the `id` of server-sent events."""
        return f"{self._name}-{number}"

    def after(self, mark: str) -> int:
        """Read what `mark` wrote; 0, which is before all, when that was another gateway's."""
        name, _, number = mark.partition("-")
        return int(number) if name == self._name and re.fullmatch("[0-9]{1,9}", number) else 0

    def is_over(self, after: int) -> bool:
        """Say whether nothing will come after a number any more."""
        return self._closed and after >= self._count

    async def follow(self, after: int = 0) -> AsyncIterator[Numbered]:
        """Iterate over the events that come after a number; ends when the job has."""
        while True:
            news = self._news
            fresh = [each for each in self._kept if each.number > after]
            for each in fresh:
                after = each.number
                yield each
            if not fresh and self._closed:
                return
            if not fresh:
                await news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _told(event: JobEvent) -> JobEvent:
    return event.stage_event if isinstance(event, StageEvent) else event


def _progress_of(event: JobEvent) -> str | None:
    """Say whose progress an event tells; None when it tells something else."""
    if not isinstance(_told(event), ProgressEvent):
        return None
    return event.stage if isinstance(event, StageEvent) else ""


def _size(event: JobEvent) -> int:
    told = _told(event)
    return len(told.b64_json or "") if isinstance(told, PreviewEvent | ImageEvent) else 0
