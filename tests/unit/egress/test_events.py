"""The events of one job: numbered, thinned out, never waited for."""

import json
from typing import Any

import pytest

from contracts.events import EVENT_ADAPTER
from contracts.result import Status
from node.egress.events import JobEvents
from node.ports import OutgoingMessage
from tests.fakes import ManualClock
from tests.unit.builders import envelope, failed, image, succeeded


class Offered:
    """An outbox that keeps what was offered."""

    def __init__(self) -> None:
        self.messages: list[OutgoingMessage] = []

    def offer(self, message: OutgoingMessage) -> None:
        self.messages.append(message)

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(message.body) for message in self.messages]

    @property
    def steps(self) -> list[int]:
        return [each["step"] for each in self.documents if each["event"] == "progress"]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def offered() -> Offered:
    return Offered()


@pytest.fixture
def events(offered: Offered, clock: ManualClock) -> JobEvents:
    return JobEvents("text2image", envelope(attempt=2), offered, clock)


def test_events_are_numbered_without_a_gap(events: JobEvents, offered: Offered) -> None:
    events.accepted()
    events.started()
    events.progress(1, 2)
    events.preview(1, "aGk=", "image/png")
    events.image(image())
    events.ended(succeeded())
    assert [each["sequence"] for each in offered.documents] == [1, 2, 3, 4, 5, 6]
    kinds = ["accepted", "started", "progress", "preview", "image", "succeeded"]
    assert [each["event"] for each in offered.documents] == kinds
    keys = [message.routing_key for message in offered.messages]
    assert keys == [f"text2image.job.{kind}" for kind in kinds]
    assert offered.documents[0]["attempt"] == 2


def test_every_event_is_one_of_the_contract(events: JobEvents, offered: Offered) -> None:
    events.accepted()
    events.progress(1, 1)
    events.image(image())
    events.ended(failed())
    for message in offered.messages:
        assert EVENT_ADAPTER.validate_json(message.body).job_id == "job"


def test_at_most_four_steps_a_second_are_told(
    events: JobEvents, offered: Offered, clock: ManualClock
) -> None:
    events.started()
    for step in range(1, 1001):
        clock.now += 0.01
        events.progress(step, 2000)
    assert len(offered.steps) <= 4 * 10 + 1
    assert len(offered.steps) >= 4 * 10 - 1


def test_the_first_and_the_last_step_are_always_told(events: JobEvents, offered: Offered) -> None:
    events.started()
    for step in range(1, 8):
        events.progress(step, 7)
    assert offered.steps == [1, 7]
    assert offered.documents[-1]["fraction"] == 1.0


def test_the_time_left_is_that_of_the_steps_left(
    events: JobEvents, offered: Offered, clock: ManualClock
) -> None:
    events.started()
    clock.now += 2.0
    events.progress(5, 25)
    told = offered.documents[-1]
    assert (told["fraction"], told["eta_seconds"]) == (0.2, 8.0)


def test_nothing_is_estimated_before_work_began(events: JobEvents, offered: Offered) -> None:
    events.progress(1, 4)
    assert offered.documents[-1]["eta_seconds"] is None


def test_the_last_step_leaves_no_time(
    events: JobEvents, offered: Offered, clock: ManualClock
) -> None:
    events.started()
    clock.now += 1.0
    events.progress(4, 4)
    assert offered.documents[-1]["eta_seconds"] == 0


def test_the_end_says_why_and_carries_no_image(events: JobEvents, offered: Offered) -> None:
    events.ended(failed())
    told = offered.documents[-1]
    assert (told["event"], told["error"]["code"]) == (Status.FAILED, "invalid_request")
    assert "images" not in told


def test_a_finished_image_comes_with_its_bytes(events: JobEvents, offered: Offered) -> None:
    events.image(image(b"bytes", index=3))
    told = offered.documents[-1]
    assert (told["index"], told["b64_json"]) == (3, image(b"bytes").b64_json)
