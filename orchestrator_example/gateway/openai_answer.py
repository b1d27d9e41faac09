"""What OpenAI's clients get: images, events of a stream, models. Pure.

The types are those of the `openai` package; what it does not know of comes as further fields,
which it keeps.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from pydantic import Field

from contracts import examples
from contracts.discovery import NodeState
from contracts.events import PreviewEvent
from contracts.message import Message
from contracts.text2image import TEXT2IMAGE, GeneratedImage, Text2ImageRequest, Text2ImageResult
from node.discovery.table import ServiceEntry
from node.errors import GenerationFailed

NOBODY: Final = "local"
"""Who owns a model whose name has no publisher."""


class ImageData(Message):
    """One image."""

    b64_json: str | None = None
    """The image file in base64."""
    url: str | None = None
    """Where to get the image file, for a while."""
    seed: int = Field(examples=[42])
    """Ask with this seed for the same image again."""


class ImagesAnswer(Message):
    """The images of a request."""

    created: int = Field(examples=[1_769_860_800])
    """Unix seconds."""
    data: list[ImageData]
    """The images, in the order of their seeds."""
    background: Literal["opaque"] = "opaque"
    """Images have no transparent parts."""
    output_format: str = Field(examples=["png"])
    """File format of the images."""
    size: str = Field(examples=["1024x1024"])
    """Width and height in pixels."""
    id: str = Field(examples=[examples.JOB_ID])
    """Id of the job that made them."""
    model: str | None = Field(default=None, examples=[examples.MODEL_ID])
    """Model that made them."""
    warnings: list[str] = Field(default_factory=list)
    """What was not heeded, and why."""


class NoInputTokens(Message):
    """Of no tokens, none are of either kind."""

    image_tokens: Literal[0] = 0
    text_tokens: Literal[0] = 0


class NoTokens(Message):
    """OpenAI's types want token counts. None are counted or billed here: all are 0."""

    input_tokens: Literal[0] = 0
    output_tokens: Literal[0] = 0
    total_tokens: Literal[0] = 0
    input_tokens_details: NoInputTokens = NoInputTokens()


class _ImageOnTheWay(Message):
    b64_json: str
    """The image file in base64."""
    background: Literal["opaque"] = "opaque"
    """Images have no transparent parts."""
    created_at: int = Field(examples=[1_769_860_800])
    """Unix seconds."""
    output_format: str = Field(examples=["jpeg"])
    """File format of this very image."""
    quality: Literal["auto"] = "auto"
    """The only one there is."""
    size: str = Field(examples=["1024x1024"])
    """Width and height in pixels that were asked for, or `auto`."""


class PartialImage(_ImageOnTheWay):
    """An unfinished image, at most 256 pixels wide and high, always a jpeg."""

    type: Literal["image_generation.partial_image"] = "image_generation.partial_image"
    """Kind of event."""
    partial_image_index: int = Field(ge=0)
    """0, 1, 2 … within the stream."""


class CompletedImage(_ImageOnTheWay):
    """A finished image."""

    type: Literal["image_generation.completed"] = "image_generation.completed"
    """Kind of event."""
    usage: NoTokens = NoTokens()
    """Zeros: no tokens are counted."""
    index: int = Field(ge=0)
    """Position of the image in the request."""
    seed: int = Field(examples=[42])
    """Ask with this seed for the same image again."""
    warnings: list[str] = Field(default_factory=list)
    """What was not heeded, and why; that of the model comes with the last image."""


class Model(Message):
    """A model that a live node offers."""

    id: str = Field(examples=[examples.MODEL_ID])
    """Name to put into a request."""
    object: Literal["model"] = "model"
    """Kind of object."""
    created: int = Field(examples=[1_769_860_800])
    """Unix seconds: the earliest start of a live node that offers it."""
    owned_by: str = Field(examples=["stabilityai"])
    """Publisher, as the name says it."""


class ModelList(Message):
    """The models that live nodes offer."""

    object: Literal["list"] = "list"
    """Kind of object."""
    data: list[Model]
    """Ordered by name."""


def images_answer(
    result: Text2ImageResult, data: Sequence[ImageData], created: int, warnings: Sequence[str]
) -> ImagesAnswer:
    """Answer a request that succeeded. Raises GenerationFailed where nothing was made."""
    if not result.images:
        raise GenerationFailed("the service answered without an image; send the request again")
    first = result.images[0]
    return ImagesAnswer(
        created=created,
        data=list(data),
        output_format=_format(first.media_type),
        size=f"{first.width}x{first.height}",
        id=result.job_id,
        model=result.model,
        warnings=[*warnings, *result.warnings],
    )


def partial_image(
    event: PreviewEvent, request: Text2ImageRequest, index: int, created: int
) -> PartialImage:
    """Show an unfinished image."""
    known = request.width is not None and request.height is not None
    return PartialImage(
        b64_json=event.b64_json,
        created_at=created,
        output_format=_format(event.media_type),
        size=f"{request.width}x{request.height}" if known else "auto",
        partial_image_index=index,
    )


def completed_image(
    image: GeneratedImage, b64_json: str, created: int, warnings: Sequence[str]
) -> CompletedImage:
    """Show a finished image."""
    return CompletedImage(
        b64_json=b64_json,
        created_at=created,
        output_format=_format(image.media_type),
        size=f"{image.width}x{image.height}",
        index=image.index,
        seed=image.seed,
        warnings=list(warnings),
    )


def models_of(entries: Iterable[ServiceEntry]) -> list[Model]:
    """List what live nodes make images with."""
    since: dict[str, int] = {}
    for entry in entries:
        if entry.name == TEXT2IMAGE and entry.metadata.state is not NodeState.DRAINING:
            started_at = entry.order[0] // 1000
            for model in entry.metadata.models:
                since[model.id] = min(started_at, since.get(model.id, started_at))
    return [
        Model(id=name, created=since[name], owned_by=name.rpartition("/")[0] or NOBODY)
        for name in sorted(since)
    ]


def _format(media_type: str) -> str:
    return media_type.removeprefix("image/")
