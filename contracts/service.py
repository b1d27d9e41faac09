"""What one service says and hears: the types of its messages."""

from dataclasses import dataclass
from typing import Final

from contracts.control import CancelRequest
from contracts.discovery import (
    Announcement,
    Goodbye,
    InfoReply,
    PingReply,
    ServiceQuestion,
    StatsReply,
)
from contracts.events import (
    AcceptedEvent,
    ImageEvent,
    PreviewEvent,
    ProgressEvent,
    StageEvent,
    StartedEvent,
    TerminalEvent,
)
from contracts.message import Message
from contracts.result import JobResult
from contracts.text2image import TEXT2IMAGE, Text2ImageRequest, Text2ImageResult

EVENTS: Final[tuple[type[Message], ...]] = (
    AcceptedEvent,
    StartedEvent,
    ProgressEvent,
    PreviewEvent,
    ImageEvent,
    TerminalEvent,
)
SHARED_MESSAGES: Final[tuple[type[Message], ...]] = (
    CancelRequest,
    ServiceQuestion,
    PingReply,
    InfoReply,
    StatsReply,
    Announcement,
    Goodbye,
)


@dataclass(frozen=True, slots=True)
class ServiceContract:
    """A service by its name, and what travels to and from it."""

    name: str = TEXT2IMAGE
    request: type[Message] = Text2ImageRequest
    result: type[JobResult] = Text2ImageResult
    description: str = (
        "Images from text, by message. Any AMQP client publishes "
        '`{"prompt": "An astronaut riding a green horse"}` to the queue `text2image`, through the '
        "default exchange or `megaservice.requests`, and gets the result in its `reply_to` queue."
    )
    has_stages: bool = False
    """Whether the service is made of others, whose events it passes on."""
    needs: frozenset[str] = frozenset()
    """The other services without which none of its jobs succeeds."""

    @property
    def events(self) -> tuple[type[Message], ...]:
        """The events of a job."""
        return (*EVENTS, StageEvent) if self.has_stages else EVENTS

    @property
    def messages(self) -> tuple[type[Message], ...]:
        """Everything that travels, each type once."""
        return (self.request, self.result, *self.events, *SHARED_MESSAGES)
