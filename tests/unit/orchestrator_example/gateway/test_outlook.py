"""Places in a queue, and the time until it is one's turn."""

from dataclasses import replace
from typing import Any

import pytest

from contracts.discovery import NodeState
from orchestrator_example.gateway.outlook import Fleet, Line, eta_seconds, fleet_of
from tests.unit.orchestrator_example.gateway.test_openai_answer import entry


def instance(name: str = "text2image", **given: Any) -> Any:
    return replace(entry(**given), name=name)


def test_jobs_get_places_behind_those_that_wait_already() -> None:
    line = Line()
    first, second = line.join(depth=3), line.join(depth=3)
    assert [line.ahead(each, None) for each in (first, second)] == [3, 4]


def test_when_a_job_begins_all_before_it_have() -> None:
    line = Line()
    tickets = [line.join(0) for _ in range(4)]
    line.began(tickets[2])
    assert line.ahead(tickets[3], None) == 0
    line.began(tickets[0])
    assert line.ahead(tickets[3], None) == 0


def test_a_queue_that_got_shorter_moves_everybody_up() -> None:
    line = Line()
    ticket = line.join(depth=9)
    assert line.ahead(ticket, depth=3) == 2
    assert line.ahead(ticket, depth=0) == 0
    assert line.ahead(ticket, depth=100) == 9


def test_after_an_empty_queue_counting_begins_anew() -> None:
    line = Line()
    line.began(line.join(depth=5))
    assert line.ahead(line.join(depth=0), None) == 0


def test_a_fleet_is_what_ready_instances_of_the_service_can_do_together() -> None:
    entries = [
        instance(slots_total=2, local_queue_depth=1, p50_seconds_per_image=2.0),
        instance(slots_total=1, local_queue_depth=0, p50_seconds_per_image=4.0),
        instance(slots_total=1, local_queue_depth=2),
        instance(slots_total=8, state=NodeState.DRAINING, p50_seconds_per_image=9.0),
        instance("captioner", slots_total=8, p50_seconds_per_image=9.0),
    ]
    assert fleet_of(entries, "text2image") == Fleet(4, 3, 3.0)
    assert fleet_of([], "text2image") == Fleet(0, 0, None)


@pytest.mark.parametrize(
    ("fleet", "ahead", "images", "seconds"),
    [
        (Fleet(1, 0, 2.0), 0, 1, 2.0),
        (Fleet(1, 0, 2.0), 3, 1, 8.0),
        (Fleet(2, 0, 2.0), 3, 1, 5.0),
        (Fleet(1, 0, 2.0), 0, 4, 8.0),
        (Fleet(1, 0, None), 0, 1, None),
        (Fleet(0, 0, 2.0), 0, 1, None),
    ],
)
def test_time_grows_with_those_ahead_and_with_images_and_shrinks_with_slots(
    fleet: Fleet, ahead: int, images: int, seconds: float | None
) -> None:
    assert eta_seconds(fleet, ahead, images) == seconds
