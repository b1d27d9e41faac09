"""Whatever bytes arrive, decoding answers: a job, or why it is none and where to say so."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.message import format_time
from contracts.text2image import Text2ImageRequest
from node.errors import InvalidRequest, UnsupportedContentType
from node.ingress.decoding import (
    MAX_COUNT,
    MAX_DETAIL_CHARS,
    MAX_TIME,
    Arrival,
    Undecodable,
    decode,
    explain,
    read_deadline,
    read_envelope,
)
from node.job import Job
from node.ports import IncomingMessage, Properties

NOW = 1_769_860_800.0
MAX_REQUEST_BYTES = 1_048_576
BODY = b'{"prompt": "An astronaut riding a green horse"}'
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def message(body: bytes = BODY, **properties: Any) -> IncomingMessage:
    return IncomingMessage("", "text2image", body, Properties(**properties))


def decoded(body: bytes = BODY, **properties: Any) -> Job | Undecodable:
    arrival = Arrival(message(body, **properties), received_at=7.0, received_time=NOW)
    return decode(arrival, Text2ImageRequest, MAX_REQUEST_BYTES)


def job(body: bytes = BODY, **properties: Any) -> Job:
    answer = decoded(body, **properties)
    assert isinstance(answer, Job), answer
    return answer


def refused(body: bytes = BODY, **properties: Any) -> Undecodable:
    answer = decoded(body, **properties)
    assert isinstance(answer, Undecodable), answer
    assert len(answer.error.detail) <= MAX_DETAIL_CHARS
    return answer


def test_the_smallest_body_is_a_job() -> None:
    taken = job()
    assert taken.request == Text2ImageRequest(prompt="An astronaut riding a green horse")
    assert (taken.received_at, taken.priority, taken.deadline) == (7.0, 0, None)
    assert taken.envelope.reply_to is None
    assert taken.envelope.attempt == 1
    assert len(taken.id) == 32


def test_properties_become_the_envelope() -> None:
    taken = job(message_id="j1", reply_to="answers", correlation_id="c1", priority=7)
    assert (taken.id, taken.priority) == ("j1", 7)
    assert (taken.envelope.reply_to, taken.envelope.correlation_id) == ("answers", "c1")


def test_an_empty_reply_to_is_none() -> None:
    assert job(reply_to="").envelope.reply_to is None


def test_two_spellings_of_one_request_have_one_fingerprint() -> None:
    spelled = job(b'{"prompt": " x ", "n": 2, "id": "a"}')
    assert spelled.fingerprint == job(b'{"num_images_per_prompt":2,"prompt":"x"}').fingerprint
    assert spelled.fingerprint != job(b'{"prompt":"x"}').fingerprint


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"{prompt: hello", "not JSON"),
        (bytes(range(256)), "not JSON"),
        (b'{"prompt": "\xff"}', "not JSON"),
        (b'{"prompt": "\\ud800"}', "not JSON"),
        (b'{"seed": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"prompt":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
        (b'[{"prompt": "x"}]', "a JSON array, not an object"),
        (b'"hello"', "a JSON string, not an object"),
        (b"null", "a JSON null, not an object"),
        (b"5", "a JSON number, not an object"),
        (b"true", "a JSON boolean, not an object"),
        (b"{}", "prompt: Field required"),
        (b'{"prompt": "x", "guidance_scale": NaN}', "guidance_scale: Input should be a finite"),
        (b'{"prompt": "x", "guidance_scale": 1e999}', "guidance_scale: Input should be a finite"),
        (b'{"prompt": "x", "stpes": 5}', "stpes: no such field"),
        (b'{"prompt": "x", "width": 513}', "width: Input should be a multiple of 8 (got 513)"),
        (b'{"prompt": "x", "width": ' + b"9" * 400 + b"}", "(got a number beyond 64 bits)"),
        (b'{"prompt": "x", "width": []}', "(got an array)"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_body_that_is_no_request_is_refused_with_the_reason(body: bytes, said: str) -> None:
    error = refused(body).error
    assert isinstance(error, InvalidRequest)
    assert said in error.detail


def test_a_large_body_is_refused_unread() -> None:
    # Not even JSON: it would be refused as such, if it were read.
    error = refused(b"x" * (15 * 1024 * 1024)).error
    assert error.detail == "the body has 15728640 bytes, this node reads at most 1048576"


def test_a_body_at_the_bound_is_read() -> None:
    assert isinstance(job(BODY.ljust(MAX_REQUEST_BYTES)), Job)
    assert "bytes" in refused(BODY.ljust(MAX_REQUEST_BYTES + 1)).error.detail


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "x", "seed": [""] * 200_000},
        {"prompt": "x", "metadata": {str(number): 1 for number in range(60_000)}},
        {"prompt": "x", "loras": [{str(number): 1 for number in range(60_000)}]},
        {"prompt": "x", **{str(number): 1 for number in range(60_000)}},
    ],
    ids=["seeds", "metadata", "lora", "fields"],
)
def test_a_flood_of_mistakes_is_answered_with_one(body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    assert len(data) <= MAX_REQUEST_BYTES
    assert ";" not in refused(data).error.detail


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-yaml", "json", "x" * 255])
def test_another_content_type_is_refused(content_type: str) -> None:
    error = refused(content_type=content_type).error
    assert isinstance(error, UnsupportedContentType)
    assert content_type[:80] in error.detail


@pytest.mark.parametrize(
    "content_type",
    [None, "", "application/json", "Application/JSON", "application/json; charset=utf-8"],
)
def test_json_is_taken_in_every_spelling_and_by_default(content_type: str | None) -> None:
    assert isinstance(job(content_type=content_type), Job)


@pytest.mark.parametrize(
    "message_id", ["two words", "x" * 300, "ä", "🦄", "a\n", "#", "a.*", "-x", "\0"]
)
def test_an_invalid_message_id_is_refused_under_an_id_of_our_own(message_id: str) -> None:
    answer = refused(message_id=message_id)
    assert "job id" in answer.error.detail
    assert answer.envelope.job_id in answer.error.detail
    assert answer.envelope.job_id != message_id


def test_the_id_in_the_body_counts_where_there_is_no_message_id() -> None:
    body = b'{"prompt": "x", "id": "0f8fad5bd9cb469fa16570867728950e"}'
    assert job(body).id == "0f8fad5bd9cb469fa16570867728950e"
    assert job(body, message_id="").id == "0f8fad5bd9cb469fa16570867728950e"
    assert job(body, message_id="j1").id == "j1"
    assert len(job(b'{"prompt": "x", "id": null}').id) == 32


@pytest.mark.parametrize("job_id", [b'"two words"', b'""', b"5", b"{}", b"[]", b"false"])
def test_an_invalid_id_in_the_body_is_refused(job_id: bytes) -> None:
    answer = refused(b'{"prompt": "x", "id": ' + job_id + b"}")
    assert "job id" in answer.error.detail


def test_an_invalid_request_is_answered_under_its_own_id() -> None:
    assert refused(b'{"id": "j1"}').envelope.job_id == "j1"
    assert refused(b"nonsense", message_id="j2").envelope.job_id == "j2"


def test_an_expiration_counts_from_the_publishers_timestamp() -> None:
    # A second is added, because timestamps have none of its parts.
    assert job(expiration_seconds=60.0, timestamp=NOW - 10).deadline == NOW + 51
    assert job(expiration_seconds=60.0).deadline == NOW + 61
    assert job(expiration_seconds=0.0, timestamp=0.0).deadline == 1.0


@pytest.mark.parametrize("prefix", ["cloudEvents_", "cloudEvents:"])
@pytest.mark.parametrize(
    "stated",
    [
        "2026-01-31T12:30:00Z",
        "2026-01-31T14:30:00.000+02:00",
        datetime(2026, 1, 31, 12, 30, tzinfo=UTC),
        datetime(2026, 1, 31, 12, 30),
    ],
)
def test_a_deadline_in_a_header_is_absolute(prefix: str, stated: object) -> None:
    expected = datetime(2026, 1, 31, 12, 30, tzinfo=UTC).timestamp()
    assert job(headers={f"{prefix}expirytime": stated}).deadline == expected


def test_the_earlier_deadline_counts() -> None:
    headers = {"cloudEvents_expirytime": format_time(NOW + 30)}
    assert job(headers=headers, expiration_seconds=60.0).deadline == NOW + 30
    assert job(headers=headers, expiration_seconds=10.0).deadline == NOW + 11


@pytest.mark.parametrize(
    "stated",
    ["", "tomorrow", "2026-01-31", "2026-01-31T12:00:00", 5, True, None, b"x", [], "x" * 100_000],
    ids=lambda value: ascii(value)[:30],
)
def test_a_deadline_that_is_no_time_is_refused(stated: object) -> None:
    headers = {"cloudEvents_expirytime": stated}
    if stated is None:
        assert job(headers=headers).deadline is None
    else:
        assert "cloudEvents_expirytime" in refused(headers=headers).error.detail


@pytest.mark.parametrize(
    "properties",
    [
        {"expiration_seconds": 1e300},
        {"expiration_seconds": 10.0, "timestamp": MAX_TIME},
        {"headers": {"cloudEvents_expirytime": "9999-12-31T23:59:59-10:00"}},
        {"headers": {"cloudEvents_expirytime": "0001-01-01T00:00:00+14:00"}},
        {"headers": {"cloudEvents_expirytime": datetime.min}},
        {
            "headers": {
                "cloudEvents_expirytime": datetime.max.replace(
                    tzinfo=timezone(timedelta(hours=-23))
                )
            }
        },
    ],
)
def test_any_deadline_can_be_written_down_again(properties: dict[str, Any]) -> None:
    deadline = read_deadline(message(**properties), NOW)
    assert deadline is not None
    assert format_time(deadline)


def test_trace_context_and_cloudevents_are_carried_along() -> None:
    carried = {
        "traceparent": TRACEPARENT,
        "tracestate": "vendor=1",
        "cloudEvents_source": "/me",
        "cloudEvents:subject": "horse",
    }
    dropped = {
        "cloudEvents_expirytime": "2030-01-01T00:00:00Z",
        "cloudEvents:expirytime": "2030-01-01T00:00:00Z",
        "x-attempt": 2,
        "x-death": [],
        "authorization": "secret",
    }
    assert job(headers=carried | dropped).envelope.headers == carried


def test_headers_are_carried_even_when_the_request_is_refused() -> None:
    assert refused(b"nonsense", headers={"traceparent": "t"}).envelope.headers == {
        "traceparent": "t"
    }


@pytest.mark.parametrize(
    "value", [0, -1, MAX_COUNT + 1, 10**400, "2", "many", 2.0, True, None, [], {}, b"2"]
)
def test_a_garbled_attempt_is_the_first(value: object) -> None:
    assert job(headers={"x-attempt": value}).envelope.attempt == 1


@pytest.mark.parametrize("value", [1, 2, MAX_COUNT])
def test_an_attempt_is_read_from_its_header(value: int) -> None:
    assert job(headers={"x-attempt": value}).envelope.attempt == value


@pytest.mark.parametrize(("value", "replay"), [(0, 0), (3, 3), (-1, 0), ("2", 0), (True, 0)])
def test_how_often_a_person_replayed_a_request_is_read_from_its_header(
    value: object, replay: int
) -> None:
    assert job(headers={"x-replay": value}).replay == replay
    assert job().replay == 0


def test_two_messages_without_id_are_two_jobs() -> None:
    assert read_envelope(message()).job_id != read_envelope(message()).job_id


@pytest.mark.parametrize(
    "document",
    [
        {"prompt": "secret " * 1000},
        {"prompt": ["secret"]},
        {"prompt": "x", "negative_prompt": "secret\0"},
        {"prompt": "secret", "seed": [1, 2]},
        {"prompt": "secret", "size": "big"},
    ],
)
def test_what_callers_wrote_never_shows_in_a_detail(document: dict[str, Any]) -> None:
    assert "secret" not in refused(json.dumps(document).encode()).error.detail


def test_every_mistake_is_named_within_bounds() -> None:
    few = refused(b'{"prompt": "", "width": 1, "hight": 8}').error.detail
    assert [part.split(":")[0] for part in few.split("; ")] == ["prompt", "width", "hight"]
    many = json.dumps({"prompt": "x", **{str(n) + "k" * 500: 1 for n in range(40)}}).encode()
    assert len(refused(many).error.detail) == MAX_DETAIL_CHARS


def test_a_mistake_in_another_type_is_explained_too() -> None:
    with pytest.raises(ValueError, match="asker") as caught:
        Text2ImageRequest.model_validate({"prompt": "x", "asker": object()})
    assert explain(caught.value) == "asker: no such field, and none is silently ignored"  # type: ignore[arg-type]


header_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.none() | st.just(UTC)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
header_names = st.text() | st.sampled_from(
    ["x-attempt", "traceparent", "cloudEvents_expirytime", "cloudEvents:expirytime", "x-death"]
)
properties = st.fixed_dictionaries(
    {},
    optional={
        "message_id": st.none() | st.text(),
        "correlation_id": st.none() | st.text(),
        "reply_to": st.none() | st.text(),
        "content_type": st.none() | st.text() | st.just("application/json"),
        "expiration_seconds": st.none() | st.floats(min_value=0, allow_nan=False),
        "timestamp": st.none() | st.floats(0, MAX_TIME),
        "priority": st.integers(0, 255),
        "headers": st.dictionaries(header_names, header_values, max_size=5),
    },
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
json_bodies = st.one_of(
    json_values, st.dictionaries(st.sampled_from(["prompt", "id", "seed", "size"]), json_values)
).map(lambda document: json.dumps(document).encode())


@given(st.binary() | json_bodies | st.just(BODY), properties)
def test_whatever_arrives_is_answered(body: bytes, given_properties: dict[str, Any]) -> None:
    answer = decoded(body, **given_properties)
    if isinstance(answer, Undecodable):
        problem = answer.error.problem(answer.envelope.job_id, answer.envelope.attempt)
        assert problem.detail
    else:
        assert answer.deadline is None or format_time(answer.deadline)
