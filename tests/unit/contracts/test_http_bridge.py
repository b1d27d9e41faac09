"""Messages of the HTTP bridge: any JSON object in, any JSON value out."""

from typing import Any

import pytest
from pydantic import ValidationError

from contracts.http_bridge import BridgeRequest, BridgeResult
from contracts.result import Status


def test_everything_but_metadata_is_the_body() -> None:
    chat = {"messages": [{"role": "user", "content": "Hi"}], "stream": None, "max_tokens": 17}
    request = BridgeRequest.model_validate({**chat, "metadata": {"album": "space"}})
    assert request.body == chat
    assert request.metadata == {"album": "space"}


def test_names_of_attributes_are_fields_as_any_other() -> None:
    given = {"body": 1, "model_extra": 2, "to_json": 3, "__dict__": 4}
    assert BridgeRequest.model_validate(given).body == given


def test_two_bodies_have_two_fingerprints() -> None:
    one, other = (BridgeRequest.model_validate({"text": text}) for text in ("a", "b"))
    assert one.to_json() != other.to_json()


@pytest.mark.parametrize(
    "body",
    [{"a": float("nan")}, {"a": {"b": [float("inf")]}}, {"metadata": {"a": 1}}, {"a": {1, 2}}],
)
def test_what_json_cannot_say_is_refused(body: Any) -> None:
    with pytest.raises(ValidationError):
        BridgeRequest.model_validate(body)


@pytest.mark.parametrize("output", [None, "text", 7, [1, [2]], {"a": {"b": None}}])
def test_any_answer_comes_through_as_it_is(output: Any) -> None:
    result = BridgeResult(job_id="a", status=Status.SUCCEEDED, output=output)
    assert BridgeResult.model_validate_json(result.to_json()).output == output


def test_the_examples_are_valid() -> None:
    for model in (BridgeRequest, BridgeResult):
        for each in model.model_json_schema()["examples"]:
            model.model_validate(each)
