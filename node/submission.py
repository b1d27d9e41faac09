"""A request on its way from a client to a service, and why it does not get there."""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

from contracts.message import (
    HEADER_EXPIRYTIME,
    HIGH_PRIORITY,
    JSON_CONTENT_TYPE,
    Message,
    format_time,
)
from contracts.result import JobResult
from contracts.topology import REQUESTS, high_queue, model_routing_key
from node.errors import ModelNotAvailable, NodeError, Overloaded, TopologyMismatch
from node.ports import OutgoingMessage, Properties

LONGEST_RETRY_AFTER_SECONDS: Final = 60.0


class Submission:
    """A request and what is waited for: its confirm by the broker, then its result."""

    def __init__(self, message: OutgoingMessage, request: Message) -> None:
        loop = asyncio.get_running_loop()
        self.message = message
        self.request = request
        self.confirmed: asyncio.Future[None] = loop.create_future()
        self.result: asyncio.Future[JobResult] = loop.create_future()

    @property
    def correlation_id(self) -> str | None:
        """What every answer to this submission carries, and to no other."""
        return self.message.properties.correlation_id

    @property
    def is_out(self) -> bool:
        """Whether the broker has it."""
        return self.confirmed.done() and self.confirmed.exception() is None

    def answered_to(self, reply_to: str) -> OutgoingMessage:
        """Address the answer to a queue."""
        properties = replace(self.message.properties, reply_to=reply_to)
        return replace(self.message, properties=properties)

    def confirm(self) -> None:
        """Tell everyone who waits that the broker has it."""
        if not self.confirmed.done():
            self.confirmed.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Tell everyone who waits that nothing will come."""
        waiting: tuple[asyncio.Future[Any], ...] = (self.confirmed, self.result)
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # that nobody waits is no fault


def no_queue(service: str, request: Message) -> NodeError:
    """Say why no queue took a request."""
    model_id = named_model(request)
    if model_id is not None:
        return ModelNotAvailable(f"no node ever offered the model {model_id!r}")
    return TopologyMismatch(
        f"there is no queue {service!r} on this broker; start a node, "
        "or run `text2image-node topology apply`"
    )


def queue_full(refusals: int) -> Overloaded:
    """Suggest a wait that doubles with every refusal in a row, spread out over callers."""
    longest = min(2.0 ** min(refusals, 10), LONGEST_RETRY_AFTER_SECONDS)
    wait = round(longest * random.uniform(0.5, 1.0), 1)
    return Overloaded(f"the queue is full; try again in {wait} seconds", wait)


def named_model(request: Message) -> str | None:
    """Name the model whose queue a request goes to.

    In a message whose fields are not known here, `model` may be anything: its service reads it.
    """
    return getattr(request, "model", None) if "model" in type(request).model_fields else None


def request_message(
    service: str,
    request: Message,
    job_id: str,
    *,
    deadline: float | None = None,
    priority: int = 0,
    headers: Mapping[str, Any] | None = None,
) -> OutgoingMessage:
    """Address a request to its service, or to the queue of the model that it names.

    `deadline` is in Unix seconds.
    """
    given = dict(headers or {})
    if deadline is not None:
        given[HEADER_EXPIRYTIME] = format_time(deadline)
    model_id = named_model(request)
    key = service
    if model_id is not None:
        key = model_routing_key(service, model_id)
    elif priority >= HIGH_PRIORITY:
        key = high_queue(service)
    properties = Properties(
        message_id=job_id,
        # Of its own for each submission: an id may be used again, and copies come late.
        correlation_id=uuid4().hex,
        content_type=JSON_CONTENT_TYPE,
        type=f"{service}.request",
        priority=priority,
        timestamp=time.time(),
        headers=given,
    )
    return OutgoingMessage(REQUESTS, key, request.to_json(), properties)
