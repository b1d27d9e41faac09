"""Answers are what the `openai` package expects, to the letter of its types."""

from dataclasses import replace
from typing import Any

import pytest
from openai.types import ImageGenStreamEvent, ImagesResponse
from openai.types import Model as OpenAIModel
from pydantic import TypeAdapter

from contracts import examples
from contracts.discovery import ModelInfo, NodeState, ServiceMetadata
from contracts.events import PreviewEvent
from contracts.text2image import GeneratedImage, Text2ImageRequest, Text2ImageResult
from node.discovery.table import ServiceEntry
from orchestrator_example.gateway.openai_answer import (
    ImageData,
    completed_image,
    images_answer,
    models_of,
    partial_image,
)

STREAM_EVENT: TypeAdapter[Any] = TypeAdapter(ImageGenStreamEvent)
IMAGE = GeneratedImage.model_validate(examples.IMAGE)
PREVIEW = PreviewEvent(
    job_id="j", sequence=3, time=examples.TIME, step=1, b64_json="aGk=", media_type="image/jpeg"
)


def entry(*models: str, started_at: int = 100, **given: Any) -> ServiceEntry:
    limits = examples.LIMITS
    offered = [ModelInfo(id=name, warm=True, limits=limits) for name in models]
    about = {"service_type": "TEXT2IMAGE", "state": NodeState.READY, "models": offered}
    metadata = ServiceMetadata.model_validate(about | given)
    return ServiceEntry("text2image", str(started_at), "1", metadata, (started_at * 1000, 7), 15.0)


def test_images_are_an_images_response() -> None:
    made_by = {"status": "succeeded", "model": examples.MODEL_ID, "warnings": ["slow"]}
    result = Text2ImageResult.model_validate(
        {"job_id": examples.JOB_ID, "images": [examples.IMAGE], **made_by}
    )
    answer = images_answer(result, [ImageData(b64_json="aGk=", seed=1234)], 5, ["hint"])
    read = ImagesResponse.model_validate_json(answer.model_dump_json(exclude_none=True))
    assert (read.created, read.size, read.output_format) == (5, "128x128", "png")
    assert (read.background, read.usage, read.quality) == ("opaque", None, None)
    assert read.data is not None
    assert (read.data[0].b64_json, read.data[0].url) == ("aGk=", None)
    assert answer.warnings == ["hint", "slow"]
    assert (answer.id, answer.model) == (examples.JOB_ID, examples.MODEL_ID)


@pytest.mark.parametrize(
    ("given", "size"),
    [({}, "auto"), ({"width": 512, "height": 256}, "512x256"), ({"width": 512}, "auto")],
)
def test_an_unfinished_image_says_what_it_is(given: dict[str, int], size: str) -> None:
    event = partial_image(PREVIEW, Text2ImageRequest(prompt="a", **given), 2, 5)
    read = STREAM_EVENT.validate_json(event.model_dump_json())
    assert read.type == "image_generation.partial_image"
    assert (read.b64_json, read.partial_image_index, read.created_at) == ("aGk=", 2, 5)
    assert (read.output_format, read.size) == ("jpeg", size)


def test_a_finished_image_says_what_it_is_and_counts_no_tokens() -> None:
    event = completed_image(IMAGE, "aGk=", 5, ["slow"])
    read = STREAM_EVENT.validate_json(event.model_dump_json())
    assert read.type == "image_generation.completed"
    assert (read.b64_json, read.output_format, read.size) == ("aGk=", "png", "128x128")
    assert read.usage.total_tokens == 0
    assert (event.index, event.seed, event.warnings) == (0, 1234, ["slow"])


def test_models_are_those_of_live_nodes_since_the_first_of_them_started() -> None:
    found = models_of(
        [
            entry("org/b", "a", started_at=200),
            entry("a", started_at=100, state=NodeState.STARTING),
            entry("leaving", state=NodeState.DRAINING),
        ]
    )
    read = [OpenAIModel.model_validate_json(model.model_dump_json()) for model in found]
    assert [(m.id, m.created, m.owned_by, m.object) for m in read] == [
        ("a", 100, "local", "model"),
        ("org/b", 200, "org", "model"),
    ]


def test_models_of_other_services_make_no_images() -> None:
    assert models_of([replace(entry("writer"), name="prompt-writer")]) == []
