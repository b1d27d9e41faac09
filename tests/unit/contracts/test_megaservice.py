"""Requests to a mega-service and its results, as they travel."""

import json

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError

from contracts.megaservice import (
    MegaServiceRequest,
    MegaServiceResult,
    StageReport,
    StageStatus,
)
from contracts.result import AnyResult, Status


def test_a_prompt_is_enough() -> None:
    request = MegaServiceRequest.model_validate_json('{"prompt": "a red cat"}')
    assert request == MegaServiceRequest(prompt="a red cat", parameters={}, metadata={})


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "prompt"),
        ({"prompt": "  "}, "prompt"),
        ({"prompt": "x", "seed": 1}, "seed"),
        ({"prompt": "x", "parameters": {"a": 5}}, "parameters.a"),
        ({"prompt": "x", "parameters": [1]}, "parameters"),
        ({"prompt": "x", "parameters": {str(n): {} for n in range(65)}}, "parameters"),
        ({"prompt": "x", "metadata": {"a": "x" * 5000}}, "metadata"),
    ],
)
def test_what_is_not_understood_is_refused_at_its_place(body: object, place: str) -> None:
    with pytest.raises(ValidationError) as refused:
        MegaServiceRequest.model_validate_json(json.dumps(body))
    assert {".".join(str(step) for step in e["loc"]) for e in refused.value.errors()} == {place}


@pytest.mark.parametrize("model", [MegaServiceRequest, StageReport, MegaServiceResult])
def test_each_message_shows_an_example_of_itself(model: type[BaseModel]) -> None:
    schema = model.model_json_schema()
    for example in schema["examples"]:
        Draft202012Validator(schema).validate(example)
        model.model_validate(example)


def test_every_end_of_a_job_is_an_end_of_a_stage() -> None:
    assert {status.value for status in Status} < {status.value for status in StageStatus}


def test_a_chain_can_be_a_stage_of_another_one() -> None:
    inner = MegaServiceResult(
        job_id="j",
        status=Status.SUCCEEDED,
        stages={"a": StageReport(service="a", status=StageStatus.SUCCEEDED, output={"n": 1})},
    )
    read = AnyResult.model_validate_json(inner.to_json())
    assert read.model_extra is not None
    assert read.model_extra["stages"]["a"]["output"] == {"n": 1}
    assert MegaServiceResult.model_validate_json(inner.to_json()) == inner
