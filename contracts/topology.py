"""The exchanges, queues and bindings of a service, as data: one topology for RabbitMQ 3.10 to 4."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

REQUESTS: Final = "megaservice.requests"
RETRY: Final = "megaservice.retry"
DEAD_LETTER: Final = "megaservice.dead-letter"
RESULTS: Final = "megaservice.results"
EVENTS: Final = "megaservice.events"
CONTROL: Final = "megaservice.control"
DISCOVERY: Final = "megaservice.discovery"

MAX_LENGTH: Final = 10_000
DELIVERY_LIMIT: Final = 5
UNANSWERED_DELIVERY_LIMIT: Final = 1000
"""Past it the broker drops a request that it gave up before, and nobody answers it. A connection
that flaps counts as well, so that a small limit loses requests that harm nobody."""
DEAD_DELIVERY_LIMIT: Final = 1_000_000
"""Looking at a dead letter counts as a delivery: more looks than one a second for seven days."""
CONSUMER_TIMEOUT_MS: Final = 2 * 60 * 60 * 1000
RESULT_TTL_MS: Final = 60 * 60 * 1000
DEAD_TTL_MS: Final = 7 * 24 * 60 * 60 * 1000
RETRY_DELAYS_SECONDS: Final = (5, 30, 120)
"""Delay before the second, third and fourth attempt; a fifth is never made."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """Messages of `exchange` with `routing_key` go to `queue`."""

    exchange: str
    queue: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything durable that a service needs on the broker."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]


EXCHANGES: Final = (
    Exchange(REQUESTS, "direct"),
    Exchange(RETRY, "direct"),
    Exchange(DEAD_LETTER, "direct"),
    Exchange(RESULTS, "topic"),
    Exchange(EVENTS, "topic"),
    Exchange(CONTROL, "fanout"),
    Exchange(DISCOVERY, "topic"),
)


def model_slug(model_id: str) -> str:
    """Spell a model id as one word of a routing key: `org/My_Model` -> `org-my-model`."""
    slug = re.sub(r"[^a-z0-9]+", "-", model_id.lower()).strip("-")
    # `text2image.high` is the routing key of urgent requests.
    return "model-high" if slug == "high" else slug


def high_queue(service: str) -> str:
    """Queue of urgent requests."""
    return f"{service}.high"


def model_queue(service: str, model_id: str) -> str:
    """Queue of requests that name a model."""
    return f"{service}.model.{model_slug(model_id)}"


def model_routing_key(service: str, model_id: str) -> str:
    """Routing key, on the exchange of requests, of requests that name a model."""
    return f"{service}.{model_slug(model_id)}"


def retry_queue(service: str, delay_seconds: int) -> str:
    """Queue in which a request waits before its next attempt; also its routing key."""
    return f"{service}.retry.{delay_seconds}s"


def dead_queue(service: str) -> str:
    """Queue of requests that can never succeed; also the routing key of those a node put there."""
    return f"{service}.dead"


def unanswered_queue(service: str) -> str:
    """Queue of requests that the broker gave up, for which a node still owes the result."""
    return f"{service}.unanswered"


def results_queue(service: str) -> str:
    """Queue that keeps the results of callers who named no queue of their own."""
    return f"{service}.results"


def job_routing_key(service: str, job_id: str, event: str | None = None) -> str:
    """Routing key of a job's result, or of one of its events."""
    return f"{service}.{job_id}" + (f".{event}" if event else "")


def request_queues(service: str, model_ids: Iterable[str] = ()) -> tuple[str, ...]:
    """Queues that a node offering these models consumes, most urgent first."""
    models = (model_queue(service, model_id) for model_id in model_ids)
    return (high_queue(service), service, *models)


def service_topology(service: str, model_ids: Iterable[str] = ()) -> Topology:
    """Draw the topology of one service, with a queue for each model."""
    models = tuple(model_ids)
    requests = tuple(Queue(name, _request_arguments()) for name in request_queues(service, models))
    retries = tuple(
        Queue(retry_queue(service, delay), _retry_arguments(service, delay))
        for delay in RETRY_DELAYS_SECONDS
    )
    keep = (
        Queue(
            dead_queue(service),
            # Unset, RabbitMQ 4 drops what was looked at 20 times.
            _bounded(DEAD_TTL_MS) | {"x-delivery-limit": DEAD_DELIVERY_LIMIT},
        ),
        Queue(
            unanswered_queue(service),
            _bounded(DEAD_TTL_MS) | {"x-delivery-limit": UNANSWERED_DELIVERY_LIMIT},
        ),
        Queue(results_queue(service), _bounded(RESULT_TTL_MS)),
    )
    return Topology(EXCHANGES, requests + retries + keep, _bindings(service, models))


def _bindings(service: str, models: tuple[str, ...]) -> tuple[Binding, ...]:
    requests = {service: service, high_queue(service): high_queue(service)}
    requests |= {model_routing_key(service, m): model_queue(service, m) for m in models}
    dead, unanswered = dead_queue(service), unanswered_queue(service)
    # The broker dead-letters under the key a request was published with: a routing key of the
    # exchange of requests, or the queue's own name (default exchange).
    given_up = dict.fromkeys([*requests, *requests.values()])
    return (
        *(Binding(REQUESTS, queue, key) for key, queue in requests.items()),
        *(
            Binding(RETRY, name, name)
            for name in (retry_queue(service, delay) for delay in RETRY_DELAYS_SECONDS)
        ),
        *(Binding(DEAD_LETTER, queue, key) for key in given_up for queue in (dead, unanswered)),
        Binding(DEAD_LETTER, dead, dead),
        Binding(RESULTS, results_queue(service), f"{service}.#"),
    )


def _request_arguments() -> dict[str, Any]:
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": DEAD_LETTER,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-max-length": MAX_LENGTH,
        "x-consumer-timeout": CONSUMER_TIMEOUT_MS,
    }


def _retry_arguments(service: str, delay_seconds: int) -> dict[str, Any]:
    return {
        "x-queue-type": "quorum",
        "x-message-ttl": delay_seconds * 1000,
        "x-dead-letter-exchange": REQUESTS,
        "x-dead-letter-routing-key": service,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _bounded(ttl_ms: int) -> dict[str, Any]:
    return {"x-queue-type": "quorum", "x-max-length": MAX_LENGTH, "x-message-ttl": ttl_ms}


def definitions(topology: Topology, vhost: str = "/") -> dict[str, Any]:
    """Write the topology as RabbitMQ definitions (`rabbitmqctl import_definitions`)."""
    durable = {"vhost": vhost, "durable": True, "auto_delete": False}
    return {
        "vhosts": [{"name": vhost}],
        "exchanges": [
            {"name": e.name, "type": e.type, "internal": False, "arguments": {}, **durable}
            for e in topology.exchanges
        ],
        "queues": [
            {"name": q.name, "type": "quorum", "arguments": q.arguments, **durable}
            for q in topology.queues
        ],
        "bindings": [
            {
                "source": b.exchange,
                "vhost": vhost,
                "destination": b.queue,
                "destination_type": "queue",
                "routing_key": b.routing_key,
                "arguments": {},
            }
            for b in topology.bindings
        ],
    }
