"""A request for images made from a picture and a text, and its result."""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field

from contracts import examples
from contracts.message import example
from contracts.picture import Picture
from contracts.text2image import (
    EffectiveParameters,
    Text2ImageRequest,
    Text2ImageResult,
    describe_input,
)

IMAGE_BASE64: Final = "iVBORw0KGgo="
OPEA_REQUEST: Final[dict[str, Any]] = {
    "image": IMAGE_BASE64,
    "prompt": examples.PROMPT,
    "num_images_per_prompt": 1,
}
"""What clients of OPEA's image2image service send, with the file in the place of its address."""

_PARAMETERS: Final = {
    **examples.PARAMETERS,
    "strength": 0.6,
    "denoising_steps": 15,
    "image_sha256": examples.IMAGE["sha256"],
}


def _is_no_address(image: Picture) -> Picture:
    if isinstance(image, str) and "://" in image[:16]:
        raise ValueError("addresses are not fetched: send the file itself in base64")
    return image


def _describe_input_with_image(schema: dict[str, Any]) -> None:
    describe_input(schema)
    schema["examples"] = [
        {"prompt": examples.PROMPT, "image": IMAGE_BASE64, "strength": 0.6, "seed": 42},
        {"prompt": examples.PROMPT, "image": examples.IMAGE},
        OPEA_REQUEST,
    ]


class Image2ImageRequest(Text2ImageRequest):
    """A request for images that begin as a picture; width and height default to the picture's."""

    model_config = ConfigDict(json_schema_extra=_describe_input_with_image)

    image: Annotated[Picture, AfterValidator(_is_no_address)]
    """What the images begin as: a PNG, JPEG or WebP file in base64, or an image of a result."""
    strength: float | None = Field(default=None, strict=True, gt=0, le=1, examples=[0.6])
    """How much of the picture is made anew: 1 is all of it; null is the model's default."""


class Image2ImageParameters(EffectiveParameters):
    """Every request field with the value that was used."""

    model_config = example(**_PARAMETERS)

    strength: float | None = Field(default=None, examples=[0.6])
    """How much of the picture was made anew; null where the model has no such thing."""
    denoising_steps: int | None = Field(default=None, examples=[15])
    """How many of the denoising iterations were run: strength leaves out the first ones."""
    image_sha256: str | None = Field(default=None, examples=[examples.IMAGE["sha256"]])
    """SHA-256 of the picture's file, lower-case hex."""


class Image2ImageResult(Text2ImageResult):
    """The outcome of an image2image job, with the images when it succeeded."""

    model_config = example(
        job_id=examples.JOB_ID,
        status="succeeded",
        model=examples.MODEL_ID,
        images=[examples.IMAGE],
        parameters=_PARAMETERS,
        identity="exact",
    )

    parameters: Image2ImageParameters | None = None
    """Effective values of every request field; null when the job never started."""


IMAGE2IMAGE: Final[Literal["image2image"]] = "image2image"
"""Name of the service: its queue, and the first word of its routing keys."""
