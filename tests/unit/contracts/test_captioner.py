"""Requests for captions, and their results."""

from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from contracts import examples
from contracts.captioner import MAX_PICTURES, Caption, CaptionerRequest, CaptionerResult
from contracts.json_schema import WireSchema
from contracts.text2image import GeneratedImage

SCHEMA = CaptionerRequest.model_json_schema(schema_generator=WireSchema)
FILE = "iVBORw0KGgo="


def read(**fields: Any) -> CaptionerRequest:
    return CaptionerRequest.model_validate(fields)


def refusals(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        read(**fields)
    errors = caught.value.errors()
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in errors)


def is_in_schema(**fields: Any) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(fields)


def test_one_picture_is_enough_as_a_file_or_as_a_result_has_it() -> None:
    assert read(image=FILE).pictures == [FILE]
    assert read(image=examples.IMAGE).pictures == [GeneratedImage(**examples.IMAGE)]
    assert is_in_schema(image=FILE)
    assert is_in_schema(image=examples.IMAGE)


def test_several_pictures_keep_their_order() -> None:
    pictures = read(images=[FILE, examples.IMAGE]).pictures
    assert pictures == [FILE, GeneratedImage(**examples.IMAGE)]


def test_a_body_of_opea_is_valid_as_it_is() -> None:
    request = read(image=FILE, prompt="", id=None)
    assert (request.pictures, request.prompt) == ([FILE], None)
    assert is_in_schema(image=FILE, prompt="", id=None)


def test_a_prompt_is_stripped_and_a_blank_one_is_none() -> None:
    assert read(image=FILE, prompt=" a horse ").prompt == "a horse"
    assert read(image=FILE, prompt="  ").prompt is None


@pytest.mark.parametrize("fields", [{}, {"images": []}, {"image": FILE, "images": [FILE]}])
def test_one_way_to_give_pictures_must_be_chosen(fields: dict[str, Any]) -> None:
    reason = "give image, or images with at least one, and not both"
    assert refusals(**fields) == f": Value error, {reason}"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"images": [FILE] * (MAX_PICTURES + 1)}, f"at most {MAX_PICTURES} items"),
        ({"image": 7}, "valid string"),
        ({"image": FILE, "prompt": "a" * 4001}, "at most 4000 characters"),
        ({"image": FILE, "max_new_tokens": 9}, "max_new_tokens: Extra inputs are not permitted"),
        ({"image": FILE, "id": 7}, "id is the job id, a string"),
    ],
)
def test_what_cannot_be_honoured_is_refused(fields: dict[str, Any], reason: str) -> None:
    assert reason in refusals(**fields)
    assert not is_in_schema(**fields)


def test_the_examples_are_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for each in SCHEMA["examples"]:
        read(**each)
        assert is_in_schema(**each)
    for model in (Caption, CaptionerResult):
        for each in model.model_json_schema()["examples"]:
            model.model_validate(each)


def test_a_score_is_a_share() -> None:
    for score in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValidationError):
            Caption(index=0, text="a horse", score=score)


def test_a_result_that_failed_needs_no_captions() -> None:
    result = CaptionerResult(job_id="job", status="failed")
    assert (result.text, result.captions, result.matches, result.best) == (None, [], None, None)
