"""The AsyncAPI document is valid, complete and joined up."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from contracts.asyncapi import asyncapi_document
from contracts.megaservice import MegaServiceRequest, MegaServiceResult
from contracts.message import Message
from contracts.result import JobResult
from contracts.service import ServiceContract
from contracts.topology import EXCHANGES, service_topology

OFFICIAL = Path(__file__).parents[2] / "data" / "asyncapi-3.0.0.schema.json"
DOCUMENT = asyncapi_document()


@pytest.fixture(scope="module")
def official() -> Draft7Validator:
    """The AsyncAPI initiative's own schema of AsyncAPI 3.0.0 documents."""
    return Draft7Validator(json.loads(OFFICIAL.read_text(encoding="utf-8")))


def test_the_document_is_valid_asyncapi(official: Draft7Validator) -> None:
    official.validate(DOCUMENT)


def test_the_official_schema_would_notice_a_mistake(official: Draft7Validator) -> None:
    channels = {"requests": {"adress": "text2image"}}
    assert not official.is_valid({**DOCUMENT, "channels": channels})


def test_any_service_has_a_document(official: Draft7Validator) -> None:
    contract = ServiceContract("painter", MegaServiceRequest, MegaServiceResult, "Paints", True)
    document = asyncapi_document(contract)
    official.validate(document)
    assert document["info"]["title"] == "painter"
    assert document["channels"]["requests"]["address"] == "painter"
    assert list(document["channels"]["queue.painter"]["messages"]) == ["MegaServiceRequest"]
    assert "StageEvent" in document["channels"]["events"]["messages"]
    assert "Text2ImageRequest" not in json.dumps(document)


class PlainRequest(Message):
    text: str


class PlainResult(JobResult):
    text: str = ""


def test_a_service_of_ones_own_need_not_describe_itself(official: Draft7Validator) -> None:
    document = asyncapi_document(ServiceContract("plain", PlainRequest, PlainResult, "Plain"))
    official.validate(document)
    assert document["components"]["messages"]["PlainRequest"]["summary"] == "PlainRequest"


def test_the_document_is_the_same_on_every_call() -> None:
    assert json.dumps(asyncapi_document()) == json.dumps(DOCUMENT)


def test_every_reference_leads_somewhere() -> None:
    references = _references(DOCUMENT)
    assert len(references) > 100
    for reference in references:
        part: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            part = part[step]


def _references(part: Any) -> list[str]:
    if isinstance(part, list):
        return [each for item in part for each in _references(item)]
    if not isinstance(part, dict):
        return []
    own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
    return own + [each for value in part.values() for each in _references(value)]


def test_every_message_travels_somewhere() -> None:
    travelling = {name for each in DOCUMENT["channels"].values() for name in each["messages"]}
    assert travelling == set(DOCUMENT["components"]["messages"])
    assert {model.__name__ for model in ServiceContract().messages} <= travelling


def test_every_channel_is_used_by_an_operation_or_is_a_queue() -> None:
    operations = DOCUMENT["operations"].values()
    used = {each["channel"]["$ref"] for each in operations}
    used |= {each["reply"]["channel"]["$ref"] for each in operations if "reply" in each}
    # A node consumes the queues of these two; only callers publish to them by routing key.
    callers = {"requests", "urgentRequests"}
    routed = {key for key in DOCUMENT["channels"] if not key.startswith("queue.")}
    assert routed - callers == {
        reference.removeprefix("#/channels/") for reference in used if "queue." not in reference
    }


def test_every_exchange_and_queue_is_there_with_its_arguments() -> None:
    bindings = [each["bindings"]["amqp"] for each in DOCUMENT["channels"].values()]
    exchanges = {
        (b["exchange"]["name"], b["exchange"]["type"]) for b in bindings if "exchange" in b
    }
    assert exchanges - {("", "default")} == {(each.name, each.type) for each in EXCHANGES}
    queues = {b["queue"]["name"]: b["x-arguments"] for b in bindings if "queue" in b}
    expected = service_topology("text2image", ["x"]).queues
    assert queues == {q.name.replace(".x", ".{model_slug}"): q.arguments for q in expected}


@pytest.mark.parametrize(
    ("channel", "address"),
    [
        ("requests", "text2image"),
        ("urgentRequests", "text2image.high"),
        ("modelRequests", "text2image.{model_slug}"),
        ("replies", None),
        ("results", "text2image.{job_id}"),
        ("events", "text2image.{job_id}.{event}"),
        ("retries", "text2image.retry.{delay}"),
        ("deadLetters", "text2image.dead"),
        ("control", ""),
        ("questions", "{verb}"),
        ("serviceQuestions", "{verb}.text2image"),
        ("instanceQuestions", "{verb}.text2image.{instance}"),
        ("discoveryReplies", "reply.{asker}"),
        ("announcements", "announce.text2image.{instance}"),
        ("goodbyes", "goodbye.text2image.{instance}"),
    ],
)
def test_addresses_are_the_routing_keys_of_the_wire(channel: str, address: str | None) -> None:
    assert DOCUMENT["channels"][channel]["address"] == address


def test_requests_are_answered_where_they_say() -> None:
    for name in ("receiveRequests", "receiveUrgentRequests", "receiveModelRequests"):
        reply = DOCUMENT["operations"][name]["reply"]
        assert reply["address"]["location"] == "$message.header#/reply_to"
        assert reply["channel"] == {"$ref": "#/channels/replies"}


@pytest.mark.parametrize(
    ("message", "amqp_type"),
    [
        ("Text2ImageRequest", "text2image.request"),
        ("Text2ImageResult", "text2image.result"),
        ("ProgressEvent", "text2image.progress"),
        ("CancelRequest", "cancel"),
        ("Announcement", "announce"),
        ("PingReply", "io.nats.micro.v1.ping_response"),
    ],
)
def test_messages_carry_their_amqp_type(message: str, amqp_type: str) -> None:
    bindings = DOCUMENT["components"]["messages"][message]["bindings"]
    assert bindings["amqp"]["messageType"] == amqp_type


def test_headers_of_requests_and_answers_are_described() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas["RequestHeaders"]["properties"]) == {
        *("traceparent", "tracestate", "x-attempt", "x-replay", "cloudEvents_expirytime")
    }
    assert set(schemas["AnswerHeaders"]["properties"]) == {"traceparent", "tracestate"}
    assert "^cloudEvents[_:]" in schemas["AnswerHeaders"]["patternProperties"]
    assert "x-dead-code" in schemas["DeadLetterHeaders"]["properties"]
    assert set(schemas["RequestProperties"]["properties"]) == {
        *("message_id", "correlation_id", "reply_to", "content_type"),
        *("expiration", "priority", "timestamp"),
    }


@pytest.mark.parametrize(
    "field", ["n", "steps", "cfg_scale", "size", "lora_weight_name_or_path", "id"]
)
def test_aliases_are_described(field: str) -> None:
    properties = DOCUMENT["components"]["schemas"]["Text2ImageRequest"]["properties"]
    assert properties[field]["description"]
