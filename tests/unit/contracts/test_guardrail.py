"""Requests of the guardrail service in every spelling, and verdicts that a caller can read."""

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from contracts.guardrail import MAX_TEXT_CHARS, GuardrailRequest, GuardrailResult
from contracts.result import Status


@pytest.mark.parametrize("name", ["text", "prompt", "query"])
def test_the_text_has_the_names_that_other_services_give_it(name: str) -> None:
    assert GuardrailRequest.model_validate({name: "a horse"}).text == "a horse"


def test_null_says_nothing() -> None:
    given = {"id": None, "text": None, "prompt": "a horse", "query": None}
    assert GuardrailRequest.model_validate(given).text == "a horse"


def test_an_opea_text_doc_is_valid_with_its_id() -> None:
    assert GuardrailRequest.model_validate({"id": "5f8d", "text": "a horse"}).text == "a horse"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "Field required"),
        ({"text": "a", "prompt": "b"}, "prompt and text say the same thing"),
        ({"query": "a", "prompt": "b"}, "query and prompt say the same thing"),
        ({"text": 7}, "valid string"),
        ({"text": "a", "id": 7}, "id is the job id"),
        ({"text": "a", "policy": "none"}, "Extra inputs"),
        ({"text": "a" * (MAX_TEXT_CHARS + 1)}, "at most"),
        ([], "dict"),
    ],
)
def test_what_is_no_request_is_refused(body: object, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        GuardrailRequest.model_validate(body)


def test_the_schema_tells_the_aliases() -> None:
    schema = Draft202012Validator(GuardrailRequest.model_json_schema())
    assert schema.is_valid({"query": "a horse", "metadata": {"a": "b"}})
    assert not schema.is_valid({"metadata": {}})
    assert not schema.is_valid({"text": "a horse", "policy": "none"})


def test_the_examples_are_valid() -> None:
    for model in (GuardrailRequest, GuardrailResult):
        for each in model.model_json_schema()["examples"]:
            model.model_validate(each)


def test_a_verdict_is_unflagged_unless_it_says_so() -> None:
    result = GuardrailResult(job_id="a", status=Status.SUCCEEDED, text="a horse")
    assert (result.flagged, result.violations, result.downstream_black_list) == (False, [], [])
