"""Ids, deadlines and the rules of every message."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contracts.control import CancelRequest
from contracts.message import (
    MAX_FIELDS,
    METADATA_MAX_BYTES,
    JobId,
    Metadata,
    cloudevents_attribute,
    format_time,
    parse_expirytime,
)

JOB_ID = TypeAdapter(JobId)
METADATA = TypeAdapter(Metadata)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "job_id", ["a", "0f8fad5b-d9cb-469f-a165-70867728950e", "user@host:1/2+3=4~5_6.7", "x" * 128]
)
def test_ids_that_callers_use_are_taken(job_id: str) -> None:
    assert JOB_ID.validate_python(job_id) == job_id


@pytest.mark.parametrize(
    "job_id", ["", " ", "a b", "a*", "a.#", "-a", ".a", "a\n", "a\0", "ä", "🦄", "x" * 129, None, 5]
)
def test_ids_that_would_break_a_routing_key_are_refused(job_id: object) -> None:
    with pytest.raises(ValidationError):
        JOB_ID.validate_python(job_id)


@pytest.mark.parametrize(
    "stated",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00.000Z",
        "2026-01-31T13:00:00+01:00",
        datetime(2026, 1, 31, 12, tzinfo=UTC),
        datetime(2026, 1, 31, 12),
    ],
)
def test_a_deadline_is_read_from_text_or_timestamp(stated: object) -> None:
    assert parse_expirytime(stated) == NOON


@pytest.mark.parametrize(
    "stated", ["", "tomorrow", "2026-01-31", "2026-01-31T12:00:00", 5, 5.0, True, None, b"x", {}]
)
def test_a_deadline_that_is_no_absolute_time_is_refused(stated: object) -> None:
    with pytest.raises(ValueError, match=r"time|isoformat"):
        parse_expirytime(stated)


@given(st.integers(0, 253_402_300_799_000))
def test_times_survive_being_written_and_read(milliseconds: int) -> None:
    assert parse_expirytime(format_time(milliseconds / 1000)) == pytest.approx(
        milliseconds / 1000, abs=0.002
    )


def test_times_are_written_in_utc_with_milliseconds() -> None:
    assert format_time(NOON + 0.25) == "2026-01-31T12:00:00.250Z"


@pytest.mark.parametrize("prefix", ["cloudEvents_", "cloudEvents:"])
def test_both_prefixes_of_cloudevents_are_read(prefix: str) -> None:
    assert cloudevents_attribute({prefix + "source": "/me"}, "source") == "/me"
    assert cloudevents_attribute({prefix + "source": "/me"}, "subject") is None


def test_messages_never_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        CancelRequest(job_id="a").job_id = "b"  # type: ignore[misc]


def test_unknown_fields_are_refused_by_name() -> None:
    with pytest.raises(ValidationError) as caught:
        CancelRequest.model_validate({"job_id": "a", "jobid": "b"})
    assert caught.value.errors()[0]["loc"] == ("jobid",)


def test_a_flood_of_fields_is_one_error() -> None:
    flood = {str(number): 1 for number in range(MAX_FIELDS + 1)}
    with pytest.raises(ValidationError) as caught:
        CancelRequest.model_validate(flood)
    assert caught.value.error_count() == 1
    assert f"has {MAX_FIELDS + 1} fields" in str(caught.value)


def test_messages_are_utf_8() -> None:
    assert CancelRequest(job_id="a").to_json() == b'{"command":"cancel","job_id":"a"}'


@pytest.mark.parametrize(
    "metadata", [{}, {"album": "space"}, {"🦄": ""}, {"k": "x" * (METADATA_MAX_BYTES - 1)}]
)
def test_metadata_of_four_kibibytes_is_echoed(metadata: dict[str, str]) -> None:
    assert METADATA.validate_python(metadata) == metadata


@pytest.mark.parametrize(
    "metadata",
    [
        {"k": "x" * METADATA_MAX_BYTES},
        {"k": "ä" * (METADATA_MAX_BYTES // 2)},
        {str(number): 1 for number in range(METADATA_MAX_BYTES + 1)},
        {"k": 1},
        {"k": None},
        {"k": {"deeper": "x"}},
        {"k": "\ud800"},
        {1: "x"},
        [],
        None,
    ],
)
def test_metadata_that_is_large_or_no_text_is_one_error(metadata: object) -> None:
    with pytest.raises(ValidationError) as caught:
        METADATA.validate_python(metadata)
    assert caught.value.error_count() == 1
