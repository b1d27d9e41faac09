"""Where messages travel, as AsyncAPI channels: routing keys of exchanges, and queues."""

from typing import Any, Final

from contracts.discovery import Verb
from contracts.service import ServiceContract
from contracts.topology import (
    CONTROL,
    DEAD_LETTER,
    DISCOVERY,
    EVENTS,
    EXCHANGES,
    REQUESTS,
    RESULTS,
    RETRY,
    RETRY_DELAYS_SECONDS,
    Queue,
    Topology,
    dead_queue,
    high_queue,
    job_routing_key,
    model_slug,
    results_queue,
    service_topology,
)

BINDING_VERSION: Final = "0.3.0"
PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "job_id": {"description": "Id of the job."},
    "event": {
        "description": "Kind of event; the terminal ones are named after the status.",
        "enum": [
            *("accepted", "started", "progress", "preview", "image"),
            *("succeeded", "failed", "cancelled", "expired"),
        ],
    },
    "model_slug": {
        "description": "Model id in lower case, with a hyphen for whatever is no letter or digit.",
        "examples": ["stabilityai-sdxl-turbo"],
    },
    "delay": {
        "description": "How long the request waits.",
        "enum": [f"{seconds}s" for seconds in RETRY_DELAYS_SECONDS],
    },
    "verb": {"description": "What is asked.", "enum": [verb.value for verb in Verb]},
    "instance": {"description": "Id of an instance."},
    "asker": {"description": "Id of who asked.", "location": "$message.payload#/asker"},
}

_MODEL: Final = "any-model"


def parameters(contract: ServiceContract) -> dict[str, dict[str, Any]]:
    """Write the parts of addresses that vary."""
    event = PARAMETERS["event"]
    stages = ["stage"] if contract.has_stages else []
    return PARAMETERS | {"event": {**event, "enum": [*event["enum"], *stages]}}


def channels(contract: ServiceContract) -> dict[str, dict[str, Any]]:
    """Write every channel of a service under the key that operations refer to."""
    return {**_routing_keys(contract), **_queues(contract)}


def queue_key(name: str) -> str:
    """Key of the channel that stands for a queue."""
    return f"queue.{name}".replace("{", "").replace("}", "")


def _routing_keys(contract: ServiceContract) -> dict[str, dict[str, Any]]:
    service = contract.name
    request, result = (contract.request.__name__,), (contract.result.__name__,)
    events = tuple(each.__name__ for each in contract.events)
    job = job_routing_key(service, "{job_id}")
    question = ("ServiceQuestion",)
    return {
        "requests": _routed(service, REQUESTS, request),
        "urgentRequests": _routed(high_queue(service), REQUESTS, request),
        "modelRequests": _routed(f"{service}.{{model_slug}}", REQUESTS, request),
        "replies": _replies(result),
        "results": _routed(job, RESULTS, result),
        "events": _routed(f"{job}.{{event}}", EVENTS, events),
        "retries": _routed(f"{service}.retry.{{delay}}", RETRY, request),
        "deadLetters": _routed(dead_queue(service), DEAD_LETTER, ("DeadLetter",)),
        # The routing key of a fanout exchange means nothing.
        "control": _routed("", CONTROL, ("CancelRequest",)),
        "questions": _routed("{verb}", DISCOVERY, question),
        "serviceQuestions": _routed(f"{{verb}}.{service}", DISCOVERY, question),
        "instanceQuestions": _routed(f"{{verb}}.{service}.{{instance}}", DISCOVERY, question),
        "discoveryReplies": _routed(
            "reply.{asker}", DISCOVERY, ("PingReply", "InfoReply", "StatsReply")
        ),
        "announcements": _routed(f"announce.{service}.{{instance}}", DISCOVERY, ("Announcement",)),
        "goodbyes": _routed(f"goodbye.{service}.{{instance}}", DISCOVERY, ("Goodbye",)),
    }


def _routed(address: str, exchange: str, messages: tuple[str, ...]) -> dict[str, Any]:
    kind = next(each.type for each in EXCHANGES if each.name == exchange)
    named = {"name": exchange, "type": kind, "durable": True, "autoDelete": False}
    return _channel(address, messages, {"is": "routingKey", "exchange": named})


def _replies(result: tuple[str, ...]) -> dict[str, Any]:
    binding = {"is": "routingKey", "exchange": {"name": "", "type": "default"}}
    return {
        "address": None,
        "description": "The queue that `reply_to` names.",
        **_channel("", result, binding, addressed=False),
    }


def _queues(contract: ServiceContract) -> dict[str, dict[str, Any]]:
    topology = service_topology(contract.name, [_MODEL])
    return {
        queue_key(_spelled(queue.name)): _queue(contract, queue, topology)
        for queue in topology.queues
    }


def _queue(contract: ServiceContract, queue: Queue, topology: Topology) -> dict[str, Any]:
    messages = {
        results_queue(contract.name): contract.result.__name__,
        dead_queue(contract.name): "DeadLetter",
    }
    name = _spelled(queue.name)
    binding = {
        "is": "queue",
        "queue": {"name": name, "durable": True, "exclusive": False, "autoDelete": False},
        "x-arguments": dict(queue.arguments),
        "x-bindings": [
            {"exchange": each.exchange, "routing_key": _spelled(each.routing_key)}
            for each in topology.bindings
            if each.queue == queue.name
        ],
    }
    return _channel(name, (messages.get(queue.name, contract.request.__name__),), binding)


def _spelled(name: str) -> str:
    return name.replace(model_slug(_MODEL), "{model_slug}")


def _channel(
    address: str, messages: tuple[str, ...], binding: dict[str, Any], *, addressed: bool = True
) -> dict[str, Any]:
    names = [name for name in PARAMETERS if f"{{{name}}}" in address]
    parameters = {name: {"$ref": f"#/components/parameters/{name}"} for name in names}
    return {
        **({"address": address} if addressed else {}),
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        **({"parameters": parameters} if parameters else {}),
        "bindings": {"amqp": {**binding, "bindingVersion": BINDING_VERSION}},
    }
