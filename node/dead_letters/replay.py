"""Where a dead letter goes when it is to run again, and what it carries along. Pure."""

from dataclasses import replace
from typing import Any, Final

from contracts.message import (
    CLOUDEVENTS_PREFIXES,
    HEADER_EXPIRYTIME,
    HEADER_REPLAY,
    HIGH_PRIORITY,
    format_time,
)
from contracts.topology import (
    REQUESTS,
    dead_queue,
    high_queue,
    model_queue,
    model_routing_key,
)
from node.dead_letters.letter import last_death, read_letter
from node.errors import InvalidRequest
from node.ingress.decoding import read_deadline
from node.ingress.given_up import death_reason
from node.ports import IncomingMessage, OutgoingMessage

DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"
DEADLINE_HEADERS: Final = frozenset(f"{prefix}expirytime" for prefix in CLOUDEVENTS_PREFIXES)


def replay_message(
    service: str, message: IncomingMessage, until: float | None, replays: int
) -> OutgoingMessage:
    """Write the request of a dead letter anew: same job id, same body, `until` as its deadline.

    `replays` counts this one.
    """
    given = message.properties
    # What begins with x- is about an earlier life; a stale copy would count in this one.
    kept = {k: v for k, v in given.headers.items() if not k.startswith("x-")}
    kept = {k: v for k, v in kept.items() if k not in DEADLINE_HEADERS}
    timed = {} if until is None else {HEADER_EXPIRYTIME: format_time(until)}
    return OutgoingMessage(
        exchange=REQUESTS,
        routing_key=request_routing_key(service, message),
        body=message.body,
        properties=replace(
            given,
            # Whoever listened for a direct reply had one; the broker would drop a second.
            reply_to=None if _is_direct(given.reply_to) else given.reply_to,
            expiration_seconds=None,
            headers=kept | timed | {HEADER_REPLAY: replays},
        ),
    )


def request_routing_key(service: str, message: IncomingMessage) -> str:
    """Find the key, on the exchange of requests, of the queue that a dead letter came from.

    The broker keeps the key a request was published with: one of that exchange, or the queue's
    own name (default exchange). Of a letter that a node wrote, the request tells.
    """
    of_models = model_queue(service, "")
    if message.routing_key == dead_queue(service):
        if (model := read_letter(message).model) is not None:
            return model_routing_key(service, model)
        urgent = message.properties.priority >= HIGH_PRIORITY
        return high_queue(service) if urgent else service
    return message.routing_key.replace(of_models, f"{service}.", 1)


def why_too_late(message: IncomingMessage, now: float) -> str:
    """Say why the request would not run any more; empty when it would."""
    try:
        until = deadline(message)
    except InvalidRequest as error:
        return f"its deadline cannot be read ({error})"
    if until is None or until > now:
        return ""
    return f"its deadline passed at {format_time(until)}"


def deadline(message: IncomingMessage) -> float | None:
    """Find the deadline of a dead letter's request, in Unix seconds.

    Raises InvalidRequest for one that is no time.
    """
    died_at = read_letter(message).died_at or 0.0
    if death_reason(message) == "expired":
        return died_at
    # The broker takes `expiration` off and notes it, as text in milliseconds.
    noted: Any = last_death(message).get("original-expiration")
    if isinstance(noted, str) and noted.isdecimal():
        given = replace(message.properties, expiration_seconds=int(noted[:15]) / 1000)
        message = replace(message, properties=given)
    return read_deadline(message, died_at)


def _is_direct(reply_to: str | None) -> bool:
    return reply_to is not None and reply_to.startswith(DIRECT_REPLY_TO)
