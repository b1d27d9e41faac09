"""What a node says about itself. Pure, given its parts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from contracts.discovery import (
    Announcement,
    Endpoint,
    EndpointStats,
    Goodbye,
    InfoReply,
    PingReply,
    ServiceMetadata,
    StatsReply,
)
from contracts.message import format_time
from node import __version__


@dataclass(frozen=True, slots=True)
class Figures:
    """What an endpoint has done since the start."""

    num_requests: int
    num_errors: int
    last_error: str | None
    processing_seconds: float


@dataclass(slots=True)
class Identity:
    """One instance of a service: fixed names, and the number of its latest announcement.

    `incarnation` is the start of the process in Unix milliseconds.
    """

    service: str
    description: str
    instance_id: str
    incarnation: int
    metadata: Callable[[], ServiceMetadata]
    figures: Callable[[], Figures]
    seq: int = 0

    def endpoint(self) -> Endpoint:
        """Describe where requests go."""
        return Endpoint(name=self.service, subject=self.service, queue_group=self.service)

    def announcement(self) -> Announcement:
        """Make the next announcement."""
        self.seq += 1
        return Announcement(
            **self._said(),
            description=self.description,
            endpoints=[self.endpoint()],
            incarnation=self.incarnation,
            seq=self.seq,
        )

    def _said(self) -> dict[str, Any]:
        """Collect what every message but the farewell begins with."""
        return {
            "name": self.service,
            "id": self.instance_id,
            "version": __version__,
            "metadata": self.metadata(),
        }

    def goodbye(self, reason: str) -> Goodbye:
        """Make the farewell."""
        self.seq += 1
        return Goodbye(
            name=self.service,
            id=self.instance_id,
            incarnation=self.incarnation,
            seq=self.seq,
            reason=reason,
        )

    def ping_reply(self) -> PingReply:
        """Answer `ping`."""
        return PingReply(
            **self._said(),
            incarnation=self.incarnation,
            seq=self.seq,
        )

    def info_reply(self) -> InfoReply:
        """Answer `info`."""
        return InfoReply(
            **self._said(),
            description=self.description,
            endpoints=[self.endpoint()],
        )

    def stats_reply(self) -> StatsReply:
        """Answer `stats`."""
        done = self.figures()
        average = done.processing_seconds / done.num_requests if done.num_requests else 0.0
        stats = EndpointStats(
            **self.endpoint().model_dump(),
            num_requests=done.num_requests,
            num_errors=done.num_errors,
            last_error=done.last_error,
            processing_time=done.processing_seconds,
            average_processing_time=average,
        )
        return StatsReply(
            **self._said(),
            started=format_time(self.incarnation / 1000),
            endpoints=[stats],
        )
