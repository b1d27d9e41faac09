"""What a flow carries that names no fields."""

import pytest
from pydantic import BaseModel

from contracts.captioner import CaptionerRequest, CaptionerResult
from contracts.guardrail import GuardrailRequest, GuardrailResult
from contracts.image2image import Image2ImageRequest, Image2ImageResult
from contracts.prompt_writer import PromptWriterRequest, PromptWriterResult
from contracts.text2image import Text2ImageRequest, Text2ImageResult
from orchestrator_example.graph import Stage
from orchestrator_example.kinds import KINDS, Kinds

CONTRACTS: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {
    "text2image": (Text2ImageRequest, Text2ImageResult),
    "image2image": (Image2ImageRequest, Image2ImageResult),
    "prompt-writer": (PromptWriterRequest, PromptWriterResult),
    "guardrail": (GuardrailRequest, GuardrailResult),
    "captioner": (CaptionerRequest, CaptionerResult),
}


@pytest.mark.parametrize("service", KINDS)
def test_every_field_that_a_known_service_takes_or_gives_is_in_its_contract(service: str) -> None:
    request, result = CONTRACTS[service]
    assert set(KINDS[service].takes.values()) <= request.model_fields.keys()
    assert {p.split(".")[0] for p in KINDS[service].gives.values()} <= result.model_fields.keys()


def test_text_goes_to_text_and_image_to_image() -> None:
    taker = Kinds({"text": "prompt", "image": "picture"}, {})
    assert taker.taken_from(Kinds({}, {"text": "said", "image": "images.0"})) == {
        "prompt": "said",
        "picture": "images.0",
    }
    assert taker.taken_from(Kinds({}, {"text": "said", "sound": "wave"})) == {"prompt": "said"}
    assert taker.taken_from(Kinds()) == {}


def test_a_stage_has_the_kinds_of_its_service_unless_it_says_otherwise() -> None:
    own = Kinds({"text": "words"})
    assert Stage("painter", "text2image").kinds == KINDS["text2image"]
    assert Stage("painter", "text2image", kinds=own).kinds == own
    assert Stage("painter", "unknown").kinds == Kinds()
