"""What OPEA's clients may write, and what becomes of it."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.image2image import Image2ImageRequest
from contracts.megaservice import MegaServiceRequest
from contracts.message import AnyMessage, Message
from contracts.text2image import Text2ImageRequest
from orchestrator_example.gateway.opea_body import MAX_WARNINGS, known_fields, tolerated
from orchestrator_example.samples import BestOfRequest

PROMPT = "a red cat"
SD_INPUTS = {
    "id": "40a59deaeb8122eb159c09878bbd312a",
    "prompt": PROMPT,
    "num_inference_steps": 50,
    "guidance_scale": 7.5,
    "num_images_per_prompt": 1,
    "seed": 42,
    "negative_prompt": None,
    "height": None,
    "width": None,
    "lora_weight_name_or_path": None,
}
"""`SDInputs(prompt=...).dict()` of opea-comps 1.5."""


def read(body: Any, model: type[Message] = Text2ImageRequest) -> dict[str, Any]:
    taken = tolerated(model, body)
    assert taken.warnings == ()
    return taken.request.model_dump(exclude_unset=True)


def warned(body: Any, model: type[Message] = Text2ImageRequest) -> tuple[str, ...]:
    return tolerated(model, body).warnings


def errors(body: Any, model: type[Message] = Text2ImageRequest) -> list[tuple[Any, ...]]:
    with pytest.raises(ValidationError) as caught:
        tolerated(model, body)
    return [each["loc"] for each in caught.value.errors()]


def test_what_opea_s_own_document_says_is_taken_without_a_word() -> None:
    taken = read(SD_INPUTS)
    assert (taken["prompt"], taken["num_inference_steps"], taken["seed"]) == (PROMPT, 50, 42)


def test_opea_s_image2image_document_is_taken_without_a_word() -> None:
    taken = read(SD_INPUTS | {"image": "iVBORw0KGgo=", "strength": 0.8}, Image2ImageRequest)
    assert (taken["image"], taken["strength"]) == ("iVBORw0KGgo=", 0.8)


def test_an_unknown_field_is_left_out_and_told_of() -> None:
    taken = tolerated(Text2ImageRequest, {"prompt": PROMPT, "top_k": 10, "images": ["x"]})
    assert taken.request == Text2ImageRequest(prompt=PROMPT)
    assert taken.warnings == ("top_k: ignored, no such field", "images: ignored, no such field")


def test_an_unknown_field_that_says_nothing_is_not_told_of() -> None:
    assert warned({"prompt": PROMPT, "top_k": None}) == ()


def test_the_other_spellings_of_the_contract_are_no_unknown_fields() -> None:
    taken = read({"prompt": PROMPT, "n": 2, "steps": 5, "size": "64x128"})
    assert taken == {
        "prompt": PROMPT,
        "num_images_per_prompt": 2,
        "num_inference_steps": 5,
        "width": 64,
        "height": 128,
    }


def test_the_id_of_a_document_is_not_that_of_the_job() -> None:
    assert "id" not in read(SD_INPUTS)
    assert warned({"prompt": PROMPT, "id": None}) == ()


def test_who_wants_to_choose_the_id_is_told_how() -> None:
    (warning,) = warned({"prompt": PROMPT, "id": "mine"})
    assert "Idempotency-Key" in warning


@pytest.mark.parametrize(
    ("field", "spelled", "value"),
    [
        ("num_inference_steps", "20", 20),
        ("num_inference_steps", 20.0, 20),
        ("seed", "7", 7),
        ("width", 64.0, 64),
        ("guidance_scale", "7.5", 7.5),
        ("guidance_scale", 7, 7.0),
    ],
)
def test_numbers_are_read_as_opea_reads_them(field: str, spelled: Any, value: Any) -> None:
    assert read({"prompt": PROMPT, field: spelled})[field] == value


@pytest.mark.parametrize("value", ["many", 2.5, "", True, [1]])
def test_what_is_no_number_is_still_refused(value: Any) -> None:
    assert errors({"prompt": PROMPT, "num_inference_steps": value}) == [("num_inference_steps",)]


@pytest.mark.parametrize("field", ["guidance_scale", "seed"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan"])
def test_what_is_not_finite_is_refused(field: str, value: Any) -> None:
    assert {loc[0] for loc in errors({"prompt": PROMPT, field: value})} == {field}


def test_every_fault_of_what_remains_is_named() -> None:
    assert errors({"prompt": " ", "width": 513, "top_k": 1}) == [("prompt",), ("width",)]


def test_a_body_without_a_prompt_is_refused_at_the_prompt() -> None:
    assert errors({"top_k": 1}) == [("prompt",)]


@pytest.mark.parametrize("body", [[], "a red cat", 3, None, b"{}"])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    assert errors(body) == [()]


@pytest.mark.parametrize(
    "body",
    [
        {"text": PROMPT},
        {"query": PROMPT},
        {"messages": PROMPT},
        {"prompt": [PROMPT]},
        {"text": [PROMPT]},
        {"prompt": None, "text": PROMPT},
        {"messages": [{"role": "user", "content": PROMPT}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]},
        {
            "messages": [
                {"role": "user", "content": "a blue cat"},
                {"role": "assistant", "content": "Here it is."},
                {"role": "user", "content": PROMPT},
            ]
        },
    ],
)
@pytest.mark.parametrize("model", [Text2ImageRequest, MegaServiceRequest])
def test_the_prompt_may_have_opea_s_other_names(body: Any, model: type[Message]) -> None:
    assert read(body, model) == {"prompt": PROMPT}


def test_beside_a_prompt_its_other_names_are_unknown_fields() -> None:
    taken = tolerated(MegaServiceRequest, {"prompt": PROMPT, "text": "a dog"})
    assert taken.request == MegaServiceRequest(prompt=PROMPT)
    assert taken.warnings == ("text: ignored, no such field",)


@pytest.mark.parametrize(
    "messages",
    [[], [{"role": "user"}], [{"role": "system", "content": "x"}], [3], {"role": "user"}, 7],
)
def test_messages_without_words_of_a_user_are_refused_at_the_prompt(messages: Any) -> None:
    assert {loc[0] for loc in errors({"messages": messages}, MegaServiceRequest)} == {"prompt"}


def test_a_field_of_a_stage_is_shown_its_place() -> None:
    (warning,) = warned({"prompt": PROMPT, "seed": 42}, MegaServiceRequest)
    assert '{"parameters": {"text2image": {"seed": ...}}}' in warning


def test_a_field_that_a_mega_service_has_of_its_own_is_its() -> None:
    assert read({"prompt": PROMPT, "seed": 42}, BestOfRequest) == {"prompt": PROMPT, "seed": 42}


def test_a_service_that_takes_everything_gets_everything_but_the_id() -> None:
    taken = tolerated(AnyMessage, {"id": "mine", "anything": 1})
    assert taken.request == AnyMessage(anything=1)


def test_a_flood_of_unknown_fields_is_told_of_in_few_words() -> None:
    body = {"prompt": PROMPT} | {f"field{number}": 1 for number in range(10_000)}
    warnings = warned(body)
    assert len(warnings) == MAX_WARNINGS + 1
    assert warnings[-1] == f"{10_000 - MAX_WARNINGS} more fields are ignored"
    assert len(warned({"prompt": PROMPT, "x" * 10_000: 1})[0]) < 100


def test_a_service_whose_types_have_no_schema_is_known_by_its_fields() -> None:
    class Odd(Message):
        prompt: str
        call: Callable[[], int] | None = None

    assert known_fields(Odd) == {"prompt", "call"}
