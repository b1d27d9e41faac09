"""A replayed request is the one that was given up: same id, same body, same queue, no past."""

from typing import Any

import pytest

from node.dead_letters.replay import (
    deadline,
    replay_message,
    request_routing_key,
    why_too_late,
)
from node.errors import InvalidRequest
from node.ports import IncomingMessage, OutgoingMessage, Properties

NOW = 1_769_860_800.0
PAST, FUTURE = "2026-01-31T11:00:00Z", "2026-01-31T13:00:00Z"
BODY = b'{"prompt": "a horse"}'
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def dead(body: bytes = BODY, key: str = "text2image.dead", **given: Any) -> IncomingMessage:
    return IncomingMessage("megaservice.dead-letter", key, body, Properties(**given))


def replayed(message: IncomingMessage, until: float | None = None) -> OutgoingMessage:
    return replay_message("text2image", message, until, replays=3)


def by_broker(reason: str, died_at: float, expiration: str | None = None) -> dict[str, Any]:
    note = {"reason": reason, "time": int(died_at)}
    return {"x-death": [note | ({"original-expiration": expiration} if expiration else {})]}


def test_the_properties_of_the_request_are_kept() -> None:
    given = Properties(
        message_id="job",
        correlation_id="mine",
        reply_to="replies",
        content_type="application/json",
        type="text2image.request",
        priority=3,
        timestamp=NOW,
        headers={"traceparent": TRACEPARENT, "cloudEvents_source": "shop", "tenant": "a"},
    )
    message = replayed(dead(**{name: getattr(given, name) for name in given.__slots__}))
    assert message.body == BODY
    assert message.persistent
    headers = {**given.headers, "x-replay": 3}
    expected = {name: getattr(given, name) for name in given.__slots__} | {"headers": headers}
    assert message.properties == Properties(**expected)


def test_headers_of_the_earlier_life_are_left_behind() -> None:
    stale = {
        "x-dead-code": "c",
        "x-attempt": 4,
        "x-death": [],
        "x-delivery-count": 7,
        "x-replay": 2,
    }
    assert replayed(dead(headers=stale)).properties.headers == {"x-replay": 3}


@pytest.mark.parametrize(
    ("key", "body", "priority", "replays_to"),
    [
        ("text2image.dead", BODY, 0, "text2image"),
        ("text2image.dead", BODY, 5, "text2image.high"),
        ("text2image.dead", b'{"model": "Org/Model"}', 9, "text2image.org-model"),
        ("text2image.dead", b"nonsense", 0, "text2image"),
        ("text2image", b'{"model": "Org/Model"}', 9, "text2image"),
        ("text2image.high", BODY, 0, "text2image.high"),
        ("text2image.org-model", BODY, 0, "text2image.org-model"),
        ("text2image.model.org-model", BODY, 0, "text2image.org-model"),
    ],
)
def test_a_request_goes_back_to_the_queue_that_it_came_from(
    key: str, body: bytes, priority: int, replays_to: str
) -> None:
    message = dead(body, key, priority=priority)
    assert request_routing_key("text2image", message) == replays_to
    sent = replayed(message)
    assert (sent.exchange, sent.routing_key) == ("megaservice.requests", replays_to)


def test_a_direct_reply_would_reach_nobody_so_the_result_is_kept() -> None:
    for gone in ("amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMj"):
        assert replayed(dead(reply_to=gone)).properties.reply_to is None


@pytest.mark.parametrize("prefix", ["cloudEvents_", "cloudEvents:"])
def test_the_deadline_is_the_one_that_is_given_whatever_the_letter_says(prefix: str) -> None:
    message = dead(headers={prefix + "expirytime": PAST}, expiration_seconds=1.0)
    without = replayed(message).properties
    assert (without.expiration_seconds, without.headers) == (None, {"x-replay": 3})
    timed = replayed(message, NOW).properties
    assert timed.expiration_seconds is None
    expected = {"x-replay": 3, "cloudEvents_expirytime": "2026-01-31T12:00:00.000Z"}
    assert timed.headers == expected


def test_a_deadline_in_the_past_is_named() -> None:
    late = dead(headers={"cloudEvents_expirytime": PAST})
    assert why_too_late(late, NOW) == "its deadline passed at 2026-01-31T11:00:00.000Z"
    assert why_too_late(dead(headers={"cloudEvents_expirytime": FUTURE}), NOW) == ""
    assert why_too_late(dead(), NOW) == ""


def test_a_deadline_that_is_no_time_is_named() -> None:
    odd = dead(headers={"cloudEvents_expirytime": "tomorrow"})
    assert "cannot be read" in why_too_late(odd, NOW)
    with pytest.raises(InvalidRequest):
        deadline(odd)


def test_what_expired_in_the_queue_is_too_late() -> None:
    expired = dead(headers=by_broker("expired", NOW - 60, "5000"))
    assert why_too_late(expired, NOW) == "its deadline passed at 2026-01-31T11:59:00.000Z"


@pytest.mark.parametrize(
    ("timestamp", "expected"), [(NOW - 100, NOW - 100 + 5 + 1), (None, NOW - 60 + 5 + 1)]
)
def test_the_expiration_that_the_broker_took_off_still_counts(
    timestamp: float | None, expected: float
) -> None:
    given_up = dead(headers=by_broker("delivery_limit", NOW - 60, "5000"), timestamp=timestamp)
    assert deadline(given_up) == expected


@pytest.mark.parametrize("noted", ["soon", "-1", "", 5000, "9" * 400])
def test_an_odd_expiration_harms_nobody(noted: Any) -> None:
    headers = by_broker("delivery_limit", NOW)
    headers["x-death"][0]["original-expiration"] = noted
    assert why_too_late(dead(headers=headers), NOW) == ""
