"""What is published about a job. Pure: an outcome and an envelope in, messages out."""

from typing import Any, Final
from uuid import uuid4

from contracts.message import (
    HEADER_ATTEMPT,
    HEADER_DEAD_CODE,
    HEADER_DEAD_DETAIL,
    HEADER_DEAD_TIME,
    HEADER_EXPIRYTIME,
    HEADER_REPLAY,
    JSON_CONTENT_TYPE,
    Message,
    format_time,
)
from contracts.topology import (
    DEAD_LETTER,
    EVENTS,
    REQUESTS,
    RESULTS,
    RETRY,
    RETRY_DELAYS_SECONDS,
    dead_queue,
    job_routing_key,
    model_routing_key,
    retry_queue,
)
from node.job import Envelope, Outcome
from node.ports import IncomingMessage, OutgoingMessage, Properties

EVENT_EXPIRATION_SECONDS: Final = 30.0
MAX_HEADER_CHARS: Final = 4000
"""All headers of a message must fit into one AMQP frame; the result has the whole detail."""


def result_message(
    service: str, outcome: Outcome, envelope: Envelope, time: float
) -> OutgoingMessage:
    """Address the result to whoever asked: `reply_to`, or the exchange of results."""
    result = outcome.result
    if result.job_id != envelope.job_id:
        result = result.model_copy(update={"job_id": envelope.job_id})
    message = OutgoingMessage(
        exchange="",
        routing_key=envelope.reply_to or "",
        body=result.to_json(),
        properties=Properties(
            # Unique in each message: returns are matched to publishes by it.
            message_id=uuid4().hex,
            correlation_id=envelope.correlation_id,
            content_type=JSON_CONTENT_TYPE,
            type=f"{service}.result",
            timestamp=time,
            headers=envelope.headers,
        ),
    )
    return message if envelope.reply_to else kept_result(service, message, envelope)


def kept_result(service: str, message: OutgoingMessage, envelope: Envelope) -> OutgoingMessage:
    """Address a result to the exchange of results, where a durable queue keeps it."""
    return OutgoingMessage(
        RESULTS, job_routing_key(service, envelope.job_id), message.body, message.properties
    )


def event_message(service: str, event: Message, kind: str, envelope: Envelope) -> OutgoingMessage:
    """Address an event to whoever listens."""
    return OutgoingMessage(
        exchange=EVENTS,
        routing_key=job_routing_key(service, envelope.job_id, kind),
        body=event.to_json(),
        properties=Properties(
            correlation_id=envelope.correlation_id,
            content_type=JSON_CONTENT_TYPE,
            type=f"{service}.{kind}",
            expiration_seconds=EVENT_EXPIRATION_SECONDS,
            headers=envelope.headers,
        ),
        persistent=False,
    )


def retry_message(
    service: str, original: IncomingMessage, job_id: str, attempt: int, deadline: float | None
) -> OutgoingMessage:
    """Send a request to wait for its next attempt.

    The deadline goes along as an absolute time: a relative one would start anew on every hop.
    """
    delay = RETRY_DELAYS_SECONDS[attempt - 1]
    name = retry_queue(service, delay)
    headers = {HEADER_ATTEMPT: attempt + 1} | _deadline_header(deadline)
    return _copy(original, RETRY, name, job_id, headers)


def forward_message(
    service: str, original: IncomingMessage, job_id: str, model_id: str, deadline: float | None
) -> OutgoingMessage:
    """Send a request on to the queue of the model that it names."""
    key = model_routing_key(service, model_id)
    return _copy(original, REQUESTS, key, job_id, _deadline_header(deadline))


def dead_letter_message(
    service: str, original: IncomingMessage, job_id: str, outcome: Outcome, time: float
) -> OutgoingMessage:
    """Put a request aside for people, with the reason in headers."""
    error = outcome.error
    assert error is not None
    headers = {
        HEADER_DEAD_CODE: error.code.value,
        HEADER_DEAD_DETAIL: error.detail[:MAX_HEADER_CHARS],
        HEADER_DEAD_TIME: format_time(time),
        HEADER_ATTEMPT: error.attempt,
    }
    return _copy(original, DEAD_LETTER, dead_queue(service), job_id, headers)


def _deadline_header(deadline: float | None) -> dict[str, Any]:
    return {} if deadline is None else {HEADER_EXPIRYTIME: format_time(deadline)}


def _copy(
    original: IncomingMessage, exchange: str, routing_key: str, job_id: str, headers: dict[str, Any]
) -> OutgoingMessage:
    given = original.properties
    # `x-death` and its like are the broker's; a stale copy of them would count for it.
    kept = {k: v for k, v in given.headers.items() if k == HEADER_REPLAY or not k.startswith("x-")}
    return OutgoingMessage(
        exchange=exchange,
        routing_key=routing_key,
        body=original.body,
        properties=Properties(
            message_id=job_id,
            correlation_id=given.correlation_id,
            reply_to=given.reply_to,
            content_type=given.content_type,
            type=given.type,
            priority=given.priority,
            timestamp=given.timestamp,
            headers=kept | headers,
        ),
    )
