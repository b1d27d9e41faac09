"""What OPEA's clients are told, whatever they sent."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.failure import FailureCode, Problem
from contracts.image2image import Image2ImageRequest
from contracts.megaservice import MegaServiceRequest
from contracts.message import Message
from contracts.text2image import Text2ImageRequest
from orchestrator_example.gateway.opea_answer import invalid_body, refused_body, warning_headers
from orchestrator_example.gateway.opea_body import known_fields, tolerated

MODELS = (Text2ImageRequest, Image2ImageRequest, MegaServiceRequest)
# What Python's reader makes of JSON: halves of surrogate pairs, NaN and endless numbers included.
texts = st.text(st.characters(), max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(texts, each, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    sorted(frozenset().union(*map(known_fields, MODELS)) | {"text", "messages"})
)
bodies = st.dictionaries(names | texts, values, max_size=8) | values


@given(st.sampled_from(MODELS), bodies)
def test_any_body_is_a_request_or_has_faults_that_can_be_told(
    model: type[Message], body: Any
) -> None:
    try:
        taken = tolerated(model, body)
    except ValidationError as error:
        told = json.dumps(invalid_body(error.errors()).model_dump(), allow_nan=False)
        told.encode()
        assert json.loads(told)["detail"]
    else:
        assert isinstance(taken.request, model)
        for header in warning_headers(taken.warnings):
            assert header.isascii()
            assert header.isprintable()


def refused(detail: str, **fields: Any) -> dict[str, Any]:
    problem = Problem.of(FailureCode.INVALID_REQUEST, detail, job_id="job", retryable=False)
    request = Image2ImageRequest(prompt="a red cat", **{"image": "iVBORw0KGgo="} | fields)
    (fault,) = refused_body(problem, request).model_dump()["detail"]
    return fault


def test_the_field_that_a_node_refused_is_told_with_what_it_was() -> None:
    fault = refused("height: 7 is outside of 64..1024", height=2048)
    assert (fault["loc"], fault["input"]) == (["body", "height"], 2048)


def test_a_picture_that_a_node_refused_is_not_sent_back_whole() -> None:
    assert len(refused("image: it is no PNG", image="A" * 1_000_000)["input"]) < 300


@pytest.mark.parametrize("detail", ["no field here", "somewhere: else", ""])
def test_a_refusal_without_a_field_is_told_of_the_body(detail: str) -> None:
    fault = refused(detail)
    assert (fault["loc"], fault["msg"], fault["input"]) == (["body"], detail, None)
