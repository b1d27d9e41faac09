"""A dead letter says which job it is, why it was given up, and when, whatever it holds."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.topology import DELIVERY_LIMIT
from node.dead_letters.letter import DeadLetter, Selection, oldest_first, read_letter
from node.ports import IncomingMessage, Properties

DIED = "2026-01-31T12:00:00.000Z"
DIED_AT = 1_769_860_800.0
BODY = b'{"prompt": "a secret horse", "model": "org/model"}'
BY_NODE = {
    "x-dead-code": "generation_failed",
    "x-dead-detail": "the pipeline failed",
    "x-dead-time": DIED,
    "x-attempt": 4,
    "x-replay": 2,
}


def letter(body: bytes = BODY, headers: Any = None, **properties: Any) -> DeadLetter:
    properties = {"message_id": "job"} | properties
    given = Properties(headers=BY_NODE if headers is None else headers, **properties)
    return read_letter(IncomingMessage("megaservice.dead-letter", "text2image.dead", body, given))


def death(reason: str, **more: Any) -> dict[str, Any]:
    return {"x-death": [{"reason": reason, "time": datetime.fromtimestamp(DIED_AT, UTC)} | more]}


def test_a_letter_that_a_node_wrote_says_everything() -> None:
    assert letter() == DeadLetter(
        job_id="job",
        code="generation_failed",
        detail="the pipeline failed",
        attempts=4,
        replays=2,
        died_at=DIED_AT,
        size_bytes=len(BODY),
        model="org/model",
        sha256=hashlib.sha256(BODY).hexdigest(),
    )


def test_a_letter_never_carries_the_prompt() -> None:
    assert "secret" not in repr(letter())


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("delivery_limit", "may crash them"),
        ("expired", "deadline passed"),
        ("maxlen", "full"),
        ("rejected", "refused"),
    ],
)
def test_a_letter_of_the_broker_has_the_brokers_reason(reason: str, said: str) -> None:
    read = letter(headers=death(reason))
    assert (read.code, read.died_at) == (reason, DIED_AT)
    assert said in read.detail


def test_deliveries_that_nobody_answered_are_tries() -> None:
    assert letter(headers=death("delivery_limit")).attempts == 1 + DELIVERY_LIMIT
    assert letter(headers=death("delivery_limit") | {"x-attempt": 3}).attempts == 3 + DELIVERY_LIMIT
    assert letter(headers=death("expired")).attempts == 1


def test_a_requester_cannot_forge_the_reason_of_a_letter_of_the_broker() -> None:
    forged = letter(headers=death("expired") | BY_NODE)
    assert (forged.code, forged.detail) == ("expired", "its deadline passed before a node took it")


def test_the_latest_death_counts() -> None:
    deaths = [*death("delivery_limit")["x-death"], *death("expired")["x-death"]]
    assert letter(headers={"x-death": deaths}).code == "delivery_limit"


@pytest.mark.parametrize(
    ("body", "message_id", "job_id"),
    [
        (BODY, "job", "job"),
        (b'{"id": "from-the-body"}', None, "from-the-body"),
        (b'{"id": "from-the-body"}', "job", "job"),
    ],
)
def test_the_job_id_is_found_as_a_node_finds_it(
    body: bytes, message_id: str | None, job_id: str
) -> None:
    assert letter(body, message_id=message_id).job_id == job_id


@pytest.mark.parametrize("message_id", [None, "", "no # wildcards", "\x1b[31mred", "x" * 129])
def test_a_letter_without_a_valid_job_id_gets_a_name_that_stays(message_id: str | None) -> None:
    name = letter(message_id=message_id).job_id
    assert name == letter(message_id=message_id).job_id == f"unnamed-{letter().sha256[:12]}"


@pytest.mark.parametrize(
    "time", ["yesterday", "", None, True, -1, 10**18, 1.5, "2026-01-31T12:00:00", b"x", [DIED]]
)
def test_a_letter_without_a_time_has_no_age(time: Any) -> None:
    assert letter(headers={"x-dead-time": time}).died_at is None


def test_times_are_read_in_every_form_that_brokers_send() -> None:
    for time in (DIED, int(DIED_AT), datetime.fromtimestamp(DIED_AT, UTC)):
        assert letter(headers={"x-dead-time": time}).died_at == DIED_AT


def test_a_body_that_is_no_request_names_no_model() -> None:
    for body in (b"", b"[]", b"\xff", b"{", b'{"model": 5}', b'{"model": ""}', b"[" * 100_000):
        assert letter(body).model is None


def test_a_body_too_large_for_a_request_is_not_parsed() -> None:
    assert letter(b'{"model": "org/model", "prompt": "' + b"x" * 2**20 + b'"}').model is None


@given(
    st.binary(max_size=60),
    st.none() | st.text(max_size=20),
    st.dictionaries(
        st.sampled_from([*BY_NODE, "x-death"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=10) | st.booleans(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
            max_leaves=5,
        ),
    ),
)
def test_reading_never_raises(body: bytes, message_id: str | None, headers: Any) -> None:
    read = letter(body, headers, message_id=message_id)
    assert read.attempts >= 1
    assert read.job_id


def test_letters_are_chosen_by_job_code_and_age() -> None:
    read = letter()
    assert Selection().matches(read)
    assert Selection(frozenset({"job", "other"}), "generation_failed", DIED_AT + 1).matches(read)
    assert not Selection(frozenset({"other"})).matches(read)
    assert not Selection(code="internal").matches(read)
    assert not Selection(died_before=DIED_AT).matches(read)


def test_a_letter_of_unknown_age_is_not_old() -> None:
    assert not Selection(died_before=DIED_AT).matches(letter(headers={}))


def test_the_order_is_by_age_and_never_left_to_chance() -> None:
    old, new = letter(), letter(headers=BY_NODE | {"x-dead-time": "2026-02-01T12:00:00Z"})
    ageless, tie = letter(headers={}), letter(message_id="a-job")
    expected = [ageless, tie, old, new]
    assert sorted([new, old, tie, ageless], key=oldest_first) == expected
    assert sorted([tie, ageless, new, old], key=oldest_first) == expected
