"""The AsyncAPI 3.0 document of the wire, as a node sees it: what it receives and what it sends."""

from typing import Any, Final

from contracts.channels import BINDING_VERSION, channels, parameters, queue_key
from contracts.json_schema import component_schemas
from contracts.message import JSON_CONTENT_TYPE, Message
from contracts.service import ServiceContract
from contracts.topology import high_queue, unanswered_queue

CONTRACT_VERSION: Final = "1.0.0"
"""Version of the wire: a new major one where a message of the old no longer does."""

_LICENCE: Final = {
    "name": "Apache-2.0",
    "url": "https://www.apache.org/licenses/LICENSE-2.0",
}
_SERVER: Final = {
    "host": "localhost:5672",
    "protocol": "amqp",
    "protocolVersion": "0-9-1",
    "description": "RabbitMQ 3.10 or newer.",
    "security": [{"$ref": "#/components/securitySchemes/login"}],
}


def asyncapi_document(contract: ServiceContract | None = None) -> dict[str, Any]:
    """Write the document of a service, text2image unless said otherwise; plain data."""
    contract = contract or ServiceContract()
    schemas = component_schemas(contract)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": contract.name,
            "version": CONTRACT_VERSION,
            "description": contract.description,
            "license": _LICENCE,
        },
        "defaultContentType": JSON_CONTENT_TYPE,
        "servers": {"rabbitmq": _SERVER},
        "channels": channels(contract),
        "operations": _operations(contract.name),
        "components": {
            "messages": _messages(contract, schemas),
            "schemas": schemas,
            "parameters": parameters(contract),
            "correlationIds": {
                "job": {
                    "description": "The AMQP property, as the request brought it.",
                    "location": "$message.header#/correlation_id",
                }
            },
            "securitySchemes": {"login": {"type": "userPassword"}},
        },
    }


def _operations(service: str) -> dict[str, dict[str, Any]]:
    result = {
        "address": {
            "location": "$message.header#/reply_to",
            "description": "The AMQP property; where it is missing, `sendResult` is the answer.",
        },
        "channel": {"$ref": "#/channels/replies"},
    }
    about_me = {"channel": {"$ref": "#/channels/discoveryReplies"}}
    model = queue_key(f"{service}.model.{{model_slug}}")
    given_up = "Answer what the broker gave up; a copy lies in the dead-letter queue."
    return {
        "receiveRequests": _receive(queue_key(service), "Take requests.", result),
        "receiveUrgentRequests": _receive(
            queue_key(high_queue(service)), "Take requests of priority 5 and more.", result
        ),
        "receiveModelRequests": _receive(model, "Take requests that name a model.", result),
        "receiveGivenUpRequests": _receive(queue_key(unanswered_queue(service)), given_up, result),
        "receiveCancels": _receive("control", "Stop a job, queued or running."),
        "receiveQuestions": _receive("questions", "Be asked as everybody.", about_me),
        "receiveServiceQuestions": _receive(
            "serviceQuestions", "Be asked as an instance of the service.", about_me
        ),
        "receiveInstanceQuestions": _receive("instanceQuestions", "Be asked alone.", about_me),
        "sendResult": _send("results", "Publish the result where `reply_to` is missing or gone."),
        "sendEvents": _send("events", "Tell how a job goes.", transient=True),
        "sendToRetry": _send("retries", "Let a request wait for its next attempt."),
        "sendToModel": _send("modelRequests", "Forward a request to the queue of its model."),
        "sendToDeadLetters": _send("deadLetters", "Put aside what can never succeed."),
        "sendAnnouncements": _send("announcements", "Say every 5 s: I am here.", transient=True),
        "sendGoodbye": _send("goodbyes", "Say: I take no more work.", transient=True),
    }


def _receive(channel: str, summary: str, reply: dict[str, Any] | None = None) -> dict[str, Any]:
    operation = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
    }
    return operation if reply is None else {**operation, "reply": reply}


def _send(channel: str, summary: str, *, transient: bool = False) -> dict[str, Any]:
    amqp = {
        "deliveryMode": 1 if transient else 2,
        "mandatory": not transient,
        "bindingVersion": BINDING_VERSION,
    }
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "bindings": {"amqp": amqp},
    }


def _messages(
    contract: ServiceContract, schemas: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    messages = {
        each.__name__: _message(each, schemas.get(each.__name__, {}), contract)
        for each in contract.messages
    }
    return messages | {
        "DeadLetter": {
            "name": "DeadLetter",
            "summary": "A request as it came, whatever it holds, with the reason in headers.",
            "payload": {"description": "The body of the request, which need not be JSON."},
            **_envelope("DeadLetterHeaders", with_properties=True),
        }
    }


def _message(
    model: type[Message], schema: dict[str, Any], contract: ServiceContract
) -> dict[str, Any]:
    message = {
        "name": model.__name__,
        "summary": schema.get("description", model.__name__),
        "contentType": JSON_CONTENT_TYPE,
        "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        "examples": [{"payload": payload} for payload in schema.get("examples", [])],
    }
    amqp_type = _amqp_type(model, contract)
    if amqp_type is not None:
        binding = {"messageType": amqp_type, "bindingVersion": BINDING_VERSION}
        message["bindings"] = {"amqp": binding}
    if model is contract.request:
        return message | _envelope("RequestHeaders", with_properties=True)
    if model is contract.result or model in contract.events:
        return message | _envelope("AnswerHeaders")
    return message


def _amqp_type(model: type[Message], contract: ServiceContract) -> str | None:
    """Find the AMQP property `type`; None where it is missing or varies."""
    if model is contract.request:
        return f"{contract.name}.request"
    if model is contract.result:
        return f"{contract.name}.result"
    if model in contract.events:
        event = model.model_fields["event"].default
        return f"{contract.name}.{event}" if isinstance(event, str) else None
    kind = model.model_fields.get("type") or model.model_fields.get("command")
    return kind.default if kind is not None else None


def _envelope(headers: str, *, with_properties: bool = False) -> dict[str, Any]:
    envelope: dict[str, Any] = {
        "headers": {"$ref": f"#/components/schemas/{headers}"},
        "correlationId": {"$ref": "#/components/correlationIds/job"},
    }
    if with_properties:
        # AsyncAPI has no place of its own for AMQP's basic properties.
        envelope["x-amqp-properties"] = {"$ref": "#/components/schemas/RequestProperties"}
    return envelope
