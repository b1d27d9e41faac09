"""Where a request goes: to its service, to the urgent ones, or to the model that it names."""

from typing import Any

import pytest

from contracts.message import AnyMessage, Message
from contracts.text2image import Text2ImageRequest
from contracts.topology import model_routing_key
from node.errors import ModelNotAvailable, TopologyMismatch
from node.submission import named_model, no_queue, queue_full, request_message

PICTURE = Text2ImageRequest(prompt="a cat", model="org/model")


def key(request: Message, **given: Any) -> str:
    return request_message("svc", request, "job", **given).routing_key


def test_a_request_that_names_a_model_goes_to_its_queue() -> None:
    assert named_model(PICTURE) == "org/model"
    of_its_model = model_routing_key("svc", "org/model")
    assert of_its_model not in ("svc", "svc.high")
    assert (key(PICTURE), key(PICTURE, priority=9)) == (of_its_model, of_its_model)


@pytest.mark.parametrize("model", ["Qwen/Qwen3", 5, ["x"], None])
def test_in_a_message_whose_fields_are_not_known_a_model_may_be_anything(model: Any) -> None:
    unknown = AnyMessage.model_validate({"text": "x", "model": model})
    assert named_model(unknown) is None
    assert (key(unknown), key(unknown, priority=9)) == ("svc", "svc.high")


@pytest.mark.parametrize("request_", [Message(), Text2ImageRequest(prompt="a cat")])
def test_a_request_that_names_no_model_goes_to_its_service(request_: Message) -> None:
    assert named_model(request_) is None
    assert (key(request_), key(request_, priority=9)) == ("svc", "svc.high")


def test_the_wait_for_a_full_queue_doubles_with_each_refusal_up_to_a_minute() -> None:
    for refusals, longest in ((1, 2.0), (2, 4.0), (5, 32.0), (6, 60.0), (5000, 60.0)):
        waits = [queue_full(refusals).retry_after_seconds for _ in range(50)]
        assert all(longest / 2 <= wait <= longest for wait in waits)
        assert len(set(waits)) > 1, "callers must not all come back at once"


def test_what_no_queue_takes_is_a_matter_of_its_model_or_of_the_topology() -> None:
    assert isinstance(no_queue("svc", PICTURE), ModelNotAvailable)
    assert isinstance(no_queue("svc", Message()), TopologyMismatch)
