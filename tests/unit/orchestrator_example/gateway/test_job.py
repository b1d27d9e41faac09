"""A job waits, runs, and ends once."""

from typing import Any

import pytest

from contracts.megaservice import MegaServiceRequest
from contracts.result import Status
from contracts.text2image import TEXT2IMAGE
from node.errors import InvalidRequest, Overloaded
from node.watches import terminal_event
from orchestrator_example.gateway.job import Job, JobState
from tests.unit.orchestrator_example.gateway.told import (
    ACCEPTED,
    IMAGE,
    STARTED,
    job,
    preview,
    progress,
    result,
    stage,
)


async def kinds(told: Job) -> list[str]:
    return [str(each.event.event) async for each in told.feed.follow()]


async def test_a_job_is_queued_until_it_starts() -> None:
    made = job()
    made.tell(ACCEPTED)
    assert made.state is JobState.QUEUED
    made.tell(STARTED)
    assert made.state is JobState.RUNNING


async def test_progress_is_that_of_the_latest_attempt() -> None:
    made = job()
    made.tell(progress(3))
    assert made.progress == progress(3)
    made.tell(ACCEPTED)
    assert made.progress is None
    made.tell(stage("one", progress(1)))
    assert made.progress == stage("one", progress(1))


@pytest.mark.parametrize("status", list(Status))
async def test_a_result_ends_a_job_for_everybody(status: Status) -> None:
    made = job()
    made.tell(progress(1))
    made.end(result(status))
    assert (made.state.value, made.progress, made.ended.is_set()) == (status.value, None, True)
    assert await kinds(made) == ["progress", status.value]


async def test_the_end_is_told_once_and_not_before_the_result_is_there() -> None:
    made = job()
    made.tell(terminal_event(result()))
    assert (made.state, made.ended.is_set()) == (JobState.QUEUED, False)
    made.end(result())
    assert await kinds(made) == ["succeeded"]


async def test_a_refused_job_tells_who_submitted_it_and_who_watches() -> None:
    made = job()
    made.refuse(Overloaded("the queue is full"))
    with pytest.raises(Overloaded):
        await made.taken
    assert made.was_refused
    assert made.ended.is_set()
    assert await kinds(made) == []


async def test_what_was_taken_is_not_refused_any_more() -> None:
    made = job()
    made.take()
    made.take()
    made.refuse(Overloaded("the gateway stops"))
    assert not made.was_refused
    assert await made.taken is None


async def test_its_bytes_are_those_of_request_pictures_and_events() -> None:
    made = job(prompt="a" * 1000)
    request_bytes = made.num_bytes
    assert 1000 < request_bytes < 2000
    made.tell(preview("p" * 300))
    made.tell(IMAGE)
    made.end(result(images=2))
    assert IMAGE.b64_json is not None
    assert made.num_bytes == request_bytes + 300 + 3 * len(IMAGE.b64_json)


async def test_only_who_gave_a_key_can_ask_for_a_job_again() -> None:
    assert job("given").has_key
    made = job()
    assert (made.service, made.has_key, len(made.id)) == (TEXT2IMAGE, False, 32)


async def test_its_last_event_goes_on_in_the_sequence_of_the_others() -> None:
    made = job()
    made.tell(progress(1).model_copy(update={"sequence": 7}))
    made.end(result())
    assert [each.event.sequence async for each in made.feed.follow()] == [7, 8]


@pytest.mark.parametrize("text", ["\ud800", ["nested"]])
async def test_a_request_that_no_message_can_hold_is_refused(text: Any) -> None:
    for _ in range(300 if isinstance(text, list) else 0):
        text = [text]
    request = MegaServiceRequest(prompt="a", parameters={"stage": {"text": text}})
    with pytest.raises(InvalidRequest, match="cannot be written as JSON"):
        Job("chain", request, "somebody")
