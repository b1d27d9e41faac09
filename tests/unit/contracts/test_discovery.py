"""The vocabulary of discovery: NATS micro's fields, and what schedulers need to know."""

import json

import pytest
from pydantic import TypeAdapter, ValidationError

from contracts import examples
from contracts.discovery import (
    ANNOUNCE_INTERVAL_SECONDS,
    ANNOUNCE_JITTER_SECONDS,
    ANNOUNCE_TTL_SECONDS,
    Announcement,
    EndpointStats,
    Goodbye,
    InfoReply,
    NodeState,
    PingReply,
    ServiceMetadata,
    ServiceQuestion,
    StatsReply,
    Verb,
)
from contracts.message import Message

MESSAGES: dict[type[Message], dict[str, object]] = {
    Announcement: {**examples.SERVICE, **examples.OFFER, **examples.ORDER, "type": "announce"},
    Goodbye: {
        **examples.ORDER,
        "type": "goodbye",
        "name": "text2image",
        "id": "6f1c2a",
        "reason": "draining",
    },
    PingReply: {
        **examples.SERVICE,
        **examples.ORDER,
        "type": "io.nats.micro.v1.ping_response",
    },
    InfoReply: {**examples.SERVICE, **examples.OFFER, "type": "io.nats.micro.v1.info_response"},
    StatsReply: {
        **examples.SERVICE,
        "type": "io.nats.micro.v1.stats_response",
        "started": examples.TIME,
        "endpoints": [examples.STATS],
    },
}


@pytest.mark.parametrize("model", MESSAGES)
def test_each_message_survives_the_wire(model: type[Message]) -> None:
    message = model.model_validate_json(json.dumps(MESSAGES[model]))
    assert model.model_validate_json(message.to_json()) == message


@pytest.mark.parametrize("model", MESSAGES)
def test_a_listener_tells_them_apart_by_type(model: type[Message]) -> None:
    anything = TypeAdapter(Announcement | Goodbye | PingReply | InfoReply | StatsReply)
    assert type(anything.validate_json(json.dumps(MESSAGES[model]))) is model


def test_a_node_is_announced_three_times_before_it_is_forgotten() -> None:
    assert ANNOUNCE_INTERVAL_SECONDS == 5
    assert ANNOUNCE_TTL_SECONDS == 15
    assert 2 * (ANNOUNCE_INTERVAL_SECONDS + ANNOUNCE_JITTER_SECONDS) < ANNOUNCE_TTL_SECONDS


def test_verbs_and_states_are_those_of_the_wire() -> None:
    assert [verb.value for verb in Verb] == ["ping", "info", "stats"]
    assert [s.value for s in NodeState] == ["starting", "ready", "draining", "unhealthy"]


def test_stats_have_the_fields_of_nats_micro() -> None:
    assert {
        *("num_requests", "num_errors", "last_error"),
        *("processing_time", "average_processing_time", "data"),
        *("name", "subject", "queue_group", "metadata"),
    } == set(EndpointStats.model_fields)


def test_metadata_says_what_admission_needs() -> None:
    assert {
        *("service_type", "state", "models", "device", "dtype"),
        *("memory_total_bytes", "memory_free_bytes", "slots_total", "slots_busy"),
        *("local_queue_depth", "p50_seconds_per_image", "asyncapi_sha256"),
    } <= set(ServiceMetadata.model_fields)


@pytest.mark.parametrize("asker", ["", "a.b", "#", "*", "a b", "x" * 65, "ä", None])
def test_an_asker_is_one_word_of_a_routing_key(asker: object) -> None:
    with pytest.raises(ValidationError):
        ServiceQuestion.model_validate({"asker": asker})
