"""Events are told apart by their kind."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from contracts import examples
from contracts.events import (
    EVENT_ADAPTER,
    AcceptedEvent,
    ImageEvent,
    PreviewEvent,
    ProgressEvent,
    StartedEvent,
    TerminalEvent,
)
from contracts.failure import FailureCode, Problem
from contracts.message import Message
from contracts.result import Status

HEAD = {"job_id": "j1", "sequence": 3, "time": examples.TIME}
KINDS: dict[str, tuple[type[Message], dict[str, Any]]] = {
    "accepted": (AcceptedEvent, {"attempt": 2}),
    "started": (StartedEvent, {}),
    "progress": (
        ProgressEvent,
        {"step": 5, "num_inference_steps": 25, "fraction": 0.2, "eta_seconds": None},
    ),
    "preview": (PreviewEvent, {"step": 5, "b64_json": "AA==", "media_type": "image/png"}),
    "image": (ImageEvent, examples.IMAGE),
    **{status.value: (TerminalEvent, {"error": None}) for status in Status},
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_read_as_its_own_type(kind: str) -> None:
    model, fields = KINDS[kind]
    document = {**HEAD, "event": kind, **fields}
    event = EVENT_ADAPTER.validate_json(json.dumps(document))
    assert type(event) is model
    assert json.loads(event.to_json()) == document


def test_an_image_event_carries_every_field_of_the_image() -> None:
    event = ImageEvent(**HEAD, **examples.IMAGE)
    assert event.model_dump(include=set(examples.IMAGE)) == examples.IMAGE


def test_a_failed_job_says_why_in_its_terminal_event() -> None:
    problem = Problem.of(FailureCode.INTERNAL, "boom", job_id="j1", retryable=True)
    event = TerminalEvent(**HEAD, event=Status.FAILED, error=problem)
    assert EVENT_ADAPTER.validate_json(event.to_json()) == event


@pytest.mark.parametrize(
    "document",
    [
        {**HEAD, "event": "exploded"},
        {**HEAD, "event": None},
        {**HEAD, "event": "started", "step": 1},
        {**HEAD, "event": "started", "sequence": 0},
        {**HEAD, "event": "progress", "step": 1, "num_inference_steps": 0, "fraction": 0.1},
        {**HEAD, "event": "progress", "step": 1, "num_inference_steps": 4, "fraction": 1.5},
        {"event": "started"},
        [],
    ],
)
def test_anything_else_is_no_event(document: object) -> None:
    with pytest.raises(ValidationError):
        EVENT_ADAPTER.validate_json(json.dumps(document))
