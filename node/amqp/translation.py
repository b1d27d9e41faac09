"""Between our messages and errors, and aio-pika's."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, DeliveryMode
from aio_pika.exceptions import (
    AMQPError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    PublishError,
)
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource
from yarl import URL

from node.errors import (
    BrokerUnavailable,
    MessageTooLarge,
    PublishRefused,
    TopologyMismatch,
    Unroutable,
)
from node.ports import IncomingMessage, OutgoingMessage, Properties

MAX_HEADER_DEPTH: Final = 8
DEFAULT_USER: Final = "guest"
"""That of aiormq, where the address names none."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise aio-pika's errors as ours."""
    try:
        yield
    except PublishError as error:
        raise Unroutable("no queue takes the message") from error
    except DeliveryError as error:
        raise PublishRefused("the broker refused the message, its queue is full") from error
    except ChannelPreconditionFailed as error:
        # RabbitMQ 3.10: "message size 9 larger than max size 8"; 4: "… is larger than configured …"
        too_large = "message size" in str(error)
        raise (MessageTooLarge if too_large else TopologyMismatch)(str(error)) from error
    except (
        ChannelNotFoundEntity,
        ChannelAccessRefused,
        ChannelLockedResource,
    ) as error:
        raise TopologyMismatch(str(error)) from error
    except (AMQPError, OSError, TimeoutError, asyncio.InvalidStateError, RuntimeError) as error:
        # aiormq and aio-pika raise RuntimeError for closed channels and connections.
        raise BrokerUnavailable(f"{type(error).__name__}: {error}") from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        # aiormq ends a call in flight with a bare Exception when its connection is closed.
        raise BrokerUnavailable("the connection was closed during the call") from error
    except asyncio.CancelledError as error:
        # aiormq cancels calls in flight when heartbeats stay away. Nobody cancelled this task:
        # let through, it would end the task without a word.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise BrokerUnavailable("the connection went away during the call") from error


def user_of(url: URL) -> str | None:
    """Name the user that a connection to this address logs in as; None when only the broker knows.

    A client certificate may stand for a user that the address does not name.
    """
    by_certificate = url.query.get("auth", "plain").lower() == "external"
    return url.user or (None if by_certificate else DEFAULT_USER)


def to_aio_pika(message: OutgoingMessage, user_id: str | None = None) -> aio_pika.Message:
    """Write a message for aio-pika; `user_id` signs it."""
    given = message.properties
    return aio_pika.Message(
        message.body,
        message_id=given.message_id,
        correlation_id=given.correlation_id,
        reply_to=given.reply_to,
        content_type=given.content_type,
        type=given.type,
        expiration=given.expiration_seconds,
        priority=given.priority,
        timestamp=given.timestamp,
        headers=dict(given.headers),
        user_id=user_id,
        app_id="text2image-node",
        delivery_mode=(
            DeliveryMode.PERSISTENT if message.persistent else DeliveryMode.NOT_PERSISTENT
        ),
    )


def from_aio_pika(message: AbstractIncomingMessage) -> IncomingMessage:
    """Read a message that aio-pika received."""
    return IncomingMessage(
        exchange=message.exchange or "",
        routing_key=message.routing_key or "",
        body=message.body,
        properties=Properties(
            message_id=message.message_id,
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
            content_type=message.content_type,
            type=message.type,
            expiration_seconds=_seconds(message.expiration),
            priority=message.priority or 0,
            timestamp=_unix(message.timestamp),
            headers={name: _plain(value) for name, value in message.headers.items()},
        ),
        user_id=message.user_id,
    )


def _plain(value: object, depth: int = 0) -> Any:
    """Keep what can be written into a message again; everything else goes on as text."""
    if value is None or isinstance(value, str | bool | int | datetime):
        return value
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    if depth == MAX_HEADER_DEPTH:
        return "…"
    if isinstance(value, dict):
        return {name: _plain(each, depth + 1) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, depth + 1) for each in value]
    return str(value)


def _seconds(expiration: object) -> float | None:
    return float(expiration) if isinstance(expiration, int | float) else None


def _unix(timestamp: datetime | None) -> float | None:
    if timestamp is None:
        return None
    return (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)).timestamp()
