"""What is published about a job: where it goes and what it carries."""

import json
from typing import Any

import pytest

from contracts.events import StartedEvent
from contracts.message import HEADER_EXPIRYTIME, format_time, parse_expirytime
from node.egress.messages import (
    MAX_HEADER_CHARS,
    dead_letter_message,
    event_message,
    forward_message,
    kept_result,
    result_message,
    retry_message,
)
from tests.unit.builders import envelope, failed, incoming, succeeded

NOW = 1_785_000_000.0
TRACE = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}


def test_a_result_goes_to_the_queue_that_the_caller_named() -> None:
    message = result_message("text2image", succeeded(), envelope(headers=TRACE), NOW)
    assert (message.exchange, message.routing_key) == ("", "replies")
    assert message.persistent
    properties = message.properties
    assert (properties.correlation_id, properties.type) == ("mine", "text2image.result")
    assert (properties.content_type, properties.timestamp) == ("application/json", NOW)
    assert properties.headers == TRACE


def test_a_result_nobody_named_a_queue_for_goes_to_the_exchange_that_keeps_it() -> None:
    message = result_message("text2image", succeeded(), envelope(reply_to=None), NOW)
    assert (message.exchange, message.routing_key) == ("megaservice.results", "text2image.job")


def test_every_result_message_has_an_id_of_its_own() -> None:
    # The broker's returns are matched to publishes by it.
    ids = {
        result_message("text2image", succeeded(), envelope(), NOW).properties.message_id
        for _ in range(3)
    }
    assert len(ids) == 3


def test_a_result_carries_the_job_id_of_the_copy_that_it_answers() -> None:
    message = result_message("text2image", succeeded("job"), envelope("other"), NOW)
    assert json.loads(message.body)["job_id"] == "other"


def test_a_kept_result_is_the_same_message_at_another_address() -> None:
    message = result_message("text2image", succeeded(), envelope(), NOW)
    kept = kept_result("text2image", message, envelope())
    assert (kept.exchange, kept.routing_key) == ("megaservice.results", "text2image.job")
    assert (kept.body, kept.properties) == (message.body, message.properties)


def test_an_event_is_transient_and_expires() -> None:
    event = StartedEvent(job_id="job", sequence=1, time=format_time(NOW))
    message = event_message("text2image", event, "started", envelope(headers=TRACE))
    assert (message.exchange, message.routing_key) == (
        "megaservice.events",
        "text2image.job.started",
    )
    assert not message.persistent
    assert 0 < message.properties.expiration_seconds <= 60
    assert message.properties.type == "text2image.started"
    assert message.properties.headers == TRACE


def original(**properties: Any) -> Any:
    given = {
        "correlation_id": "mine",
        "reply_to": "replies",
        "content_type": "application/json",
        "type": "text2image.request",
        "priority": 7,
        "timestamp": NOW - 10,
        "expiration_seconds": 60.0,
        "headers": {
            "x-death": [{"count": 1}],
            "x-delivery-count": 2,
            "x-replay": 1,
            "cloudEvents_source": "me",
        },
    }
    return incoming(b'{"prompt": "x"}', **(given | properties))


@pytest.mark.parametrize(("attempt", "queue"), [(1, "5s"), (2, "30s"), (3, "120s")])
def test_a_retry_waits_in_the_queue_of_its_tier_with_the_attempts_counted(
    attempt: int, queue: str
) -> None:
    message = retry_message("text2image", original(), "job", attempt, None)
    assert (message.exchange, message.routing_key) == (
        "megaservice.retry",
        f"text2image.retry.{queue}",
    )
    assert message.properties.headers["x-attempt"] == attempt + 1
    assert message.body == b'{"prompt": "x"}'


def test_the_deadline_goes_along_as_an_absolute_time_and_never_as_a_relative_one() -> None:
    for message in (
        retry_message("text2image", original(), "job", 1, NOW + 60),
        forward_message("text2image", original(), "job", "org/model", NOW + 60),
    ):
        assert message.properties.expiration_seconds is None
        assert parse_expirytime(message.properties.headers[HEADER_EXPIRYTIME]) == NOW + 60


def test_without_a_deadline_none_is_made_up() -> None:
    message = retry_message("text2image", original(), "job", 1, None)
    assert HEADER_EXPIRYTIME not in message.properties.headers


def test_a_forwarded_request_goes_to_the_queue_of_its_model() -> None:
    message = forward_message("text2image", original(), "job", "Org/My_Model", None)
    assert (message.exchange, message.routing_key) == (
        "megaservice.requests",
        "text2image.org-my-model",
    )


def test_a_copy_keeps_who_asked_and_what_and_takes_the_job_id() -> None:
    kept = retry_message("text2image", original(message_id=None), "made-up", 1, None).properties
    assert kept.message_id == "made-up"
    assert (kept.correlation_id, kept.reply_to, kept.priority) == ("mine", "replies", 7)
    assert (kept.content_type, kept.type) == ("application/json", "text2image.request")
    assert kept.timestamp == NOW - 10


def test_headers_of_the_broker_are_not_copied_and_those_of_the_caller_are() -> None:
    for message in (
        retry_message("text2image", original(), "job", 1, None),
        forward_message("text2image", original(), "job", "m", None),
        dead_letter_message("text2image", original(), "job", failed(), NOW),
    ):
        headers = message.properties.headers
        assert headers["cloudEvents_source"] == "me"
        assert not {"x-death", "x-delivery-count"} & set(headers)
        assert headers["x-replay"] == 1


def test_a_dead_letter_says_why_and_when() -> None:
    message = dead_letter_message("text2image", original(), "job", failed(attempt=3), NOW)
    assert (message.exchange, message.routing_key) == ("megaservice.dead-letter", "text2image.dead")
    headers = message.properties.headers
    assert headers["x-dead-code"] == "invalid_request"
    assert headers["x-dead-detail"] == "what went wrong"
    assert headers["x-dead-time"] == format_time(NOW)
    assert headers["x-attempt"] == 3
    assert message.body == b'{"prompt": "x"}'


def test_the_headers_of_a_dead_letter_fit_into_a_frame_however_much_went_wrong() -> None:
    outcome = failed(detail="x" * 3_000_000)
    headers = dead_letter_message("text2image", original(), "job", outcome, NOW).properties.headers
    assert len(headers["x-dead-detail"]) == MAX_HEADER_CHARS
