"""Requests for a prompt, in every accepted spelling, and their results."""

from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from contracts.json_schema import WireSchema
from contracts.prompt_writer import MAX_NEW_TOKENS, PromptWriterRequest, PromptWriterResult

SCHEMA = PromptWriterRequest.model_json_schema(schema_generator=WireSchema)


def read(**fields: Any) -> PromptWriterRequest:
    return PromptWriterRequest.model_validate(fields)


def refusal(**fields: Any) -> str:
    """Say why a request is refused; there is exactly one reason."""
    with pytest.raises(ValidationError) as caught:
        read(**fields)
    (error,) = caught.value.errors()
    return f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"


def is_in_schema(**fields: Any) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(fields)


@pytest.mark.parametrize("name", ["text", "query", "prompt"])
def test_a_text_is_enough_under_any_of_its_names(name: str) -> None:
    request = read(**{name: "  a cosmonaut "})
    assert request.model_dump() == {"text": "a cosmonaut", "max_new_tokens": None, "metadata": {}}
    assert is_in_schema(**{name: "a cosmonaut"})


@pytest.mark.parametrize("name", ["max_new_tokens", "max_tokens"])
def test_the_length_is_bounded_under_any_of_its_names(name: str) -> None:
    for value in (1, MAX_NEW_TOKENS):
        assert read(text="a", **{name: value}).max_new_tokens == value
    for value in (0, MAX_NEW_TOKENS + 1, 1.5, True, "9"):
        assert refusal(text="a", **{name: value}).startswith("max_new_tokens: ")
        assert not is_in_schema(text="a", **{name: value})


def test_null_says_nothing() -> None:
    fields = {"text": "a", "query": None, "max_tokens": None, "id": None}
    assert read(**fields) == read(text="a")


def test_the_job_id_may_lie_in_the_body() -> None:
    assert read(text="a", id="my-job") == read(text="a")
    assert is_in_schema(text="a", id="my-job")
    assert "id is the job id, a string" in refusal(text="a", id=7)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "text: Field required"),
        ({"text": "   "}, "text: String should have at least 1 character"),
        ({"text": "a" * 4001}, "text: String should have at most 4000 characters"),
        ({"text": "a\0"}, "text: Value error, must not contain NUL characters"),
        ({"text": "a", "query": "b"}, ": Value error, query and text say the same thing"),
        ({"query": "a", "prompt": "b"}, ": Value error, prompt and query say the same thing"),
        ({"text": "a", "temperature": 1}, "temperature: Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_honoured_is_refused(fields: dict[str, Any], reason: str) -> None:
    assert refusal(**fields).startswith(reason)


def test_the_schema_knows_what_is_missing_and_what_is_too_much() -> None:
    assert not is_in_schema()
    assert not is_in_schema(text="a", temperature=1)


def test_the_examples_are_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for each in SCHEMA["examples"]:
        read(**each)
        assert is_in_schema(**each)
    for each in PromptWriterResult.model_json_schema()["examples"]:
        PromptWriterResult.model_validate(each)


def test_a_result_that_failed_needs_no_prompt() -> None:
    assert PromptWriterResult(job_id="job", status="failed").text is None
