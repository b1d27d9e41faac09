"""A request for images in the spelling of Diffusers, and its result."""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator

from contracts.message import MAX_SEED, Message, Metadata
from contracts.result import JobResult

MAX_PROMPT_CHARS: Final = 4000
SIZE_GRANULARITY: Final = 8
MAX_IMAGES: Final = 64
"""Bound of the contract; each node announces a smaller one of its own."""
EXAMPLE_PROMPT: Final = "An astronaut riding a green horse"

Prompt = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_PROMPT_CHARS)
]
Seed = Annotated[int, Field(strict=True, ge=0, le=MAX_SEED)]
Size = Annotated[int, Field(strict=True, ge=SIZE_GRANULARITY, le=16384)]

# A name from a list that the node announces: never a path, a URL or a pattern.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]
ModelId = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$", max_length=193
    ),
]


class OutputFormat(StrEnum):
    """File format of the images."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def media_type(self) -> str:
        """IANA media type."""
        return f"image/{self.value}"


class ResponseKind(StrEnum):
    """How the image bytes come back."""

    INLINE = "inline"
    REFERENCE = "reference"


class Identity(StrEnum):
    """How close the picture is to the same request run alone."""

    EXACT = "exact"
    CLOSE = "close"
    APPROXIMATE = "approximate"


class LoRA(Message):
    """A low-rank adaptation by the name that the node announces."""

    name: Name = Field(examples=["pixel-art"])
    """Announced name; never a path or URL."""
    scale: float = Field(default=1.0, ge=-10, le=10, examples=[0.8])
    """Strength; 1 applies it as trained."""


class Text2ImageRequest(Message):
    """A request for images; null means the model's own default."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": EXAMPLE_PROMPT, "seed": 42}]}
    )

    prompt: Prompt = Field(examples=[EXAMPLE_PROMPT])
    """What the images show; 1..4000 characters after stripping."""
    negative_prompt: Prompt | None = None
    """What the images avoid. A list of one, as OPEA allows, is taken as its element."""
    model: ModelId | None = Field(default=None, examples=["stabilityai/sdxl-turbo"])
    """Model that the node offers; null is the node's default."""
    width: Size | None = Field(default=None, multiple_of=SIZE_GRANULARITY, examples=[512])
    """Pixels, a multiple of 8; null is the model's native width."""
    height: Size | None = Field(default=None, multiple_of=SIZE_GRANULARITY, examples=[512])
    """Pixels, a multiple of 8; null is the model's native height."""
    num_inference_steps: int | None = Field(default=None, strict=True, ge=1, le=1000, examples=[25])
    """Denoising iterations."""
    guidance_scale: float | None = Field(default=None, strict=True, ge=0, le=50, examples=[7.5])
    """Strength of classifier-free guidance."""
    num_images_per_prompt: int = Field(default=1, strict=True, ge=1, le=MAX_IMAGES, examples=[1])
    """How many images to make."""
    seed: Seed | list[Seed] | None = Field(default=None, examples=[42])
    """One seed (image i gets seed + i), or one per image; null or -1 is random."""
    scheduler: Name | None = Field(default=None, examples=["DPMSolverMultistepScheduler"])
    """Noise scheduler that the model announces."""
    loras: list[LoRA] = Field(default_factory=list, max_length=8)
    """LoRAs to apply, by announced name."""
    output_format: OutputFormat = OutputFormat.PNG
    """File format of the images."""
    output_quality: int | None = Field(default=None, strict=True, ge=1, le=100)
    """Compression quality, jpeg and webp only."""
    response: ResponseKind = ResponseKind.INLINE
    """Whether image bytes come inside the result or as a URI into the artifact store."""
    previews: int = Field(default=0, strict=True, ge=0, le=10)
    """How many preview images to publish on the way."""
    strict: bool = Field(default=False, strict=True)
    """Only bytes equal to the request run alone will do."""
    metadata: Metadata = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _aliases(cls, data: Any) -> Any:
        return _without_aliases(data) if isinstance(data, dict) else data

    @field_validator("negative_prompt", mode="before")
    @classmethod
    def _one_negative_prompt(cls, value: Any) -> Any:
        if isinstance(value, list):
            if len(value) != 1:
                raise ValueError("takes one string, or a list of exactly one")
            value = value[0]
        # OPEA clients send "" where they mean none.
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("seed", mode="before")
    @classmethod
    def _random_seed(cls, value: Any) -> Any:
        return None if value == -1 and not isinstance(value, bool | float) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.seed, list) and len(self.seed) != self.num_images_per_prompt:
            raise ValueError(
                f"seed lists {len(self.seed)} numbers for {self.num_images_per_prompt} images"
            )
        if self.output_quality is not None and self.output_format is OutputFormat.PNG:
            raise ValueError("output_quality applies to jpeg and webp, png is lossless")
        return self


_RENAMED: Final = {
    "n": "num_images_per_prompt",
    "steps": "num_inference_steps",
    "cfg_scale": "guidance_scale",
}


def _without_aliases(data: dict[str, Any]) -> dict[str, Any]:
    """Spell the accepted aliases as their fields; ValueError where both are given."""
    data = dict(data)
    data.pop("id", None)  # the job id, read from the body by the node before it validates
    for alias, field in _RENAMED.items():
        if alias in data:
            _move(data, alias, {field: data[alias]})
    if "size" in data:
        _move(data, "size", _parse_size(data["size"]))
    if "lora_weight_name_or_path" in data:
        name = data["lora_weight_name_or_path"]
        _move(data, "lora_weight_name_or_path", {"loras": [{"name": name}]} if name else {})
    return data


def _move(data: dict[str, Any], alias: str, fields: dict[str, Any]) -> None:
    del data[alias]
    for field, value in fields.items():
        if data.get(field) is not None:
            raise ValueError(f"{alias} and {field} say the same thing: give one of them")
        data[field] = value


def _parse_size(size: Any) -> dict[str, int]:
    if size is None:
        return {}
    width, cross, height = str(size).lower().partition("x")
    if not (cross and width.isascii() and width.isdigit() and height.isdigit()):
        raise ValueError(f'size is "WIDTHxHEIGHT", for example "512x512", not {str(size)[:40]!r}')
    return {"width": int(width[:9]), "height": int(height[:9])}


class GeneratedImage(Message):
    """One image: its bytes inline or by reference, and how it came about."""

    index: int = Field(ge=0, examples=[0])
    """Position in the request, from 0."""
    b64_json: str | None = Field(default=None, examples=["iVBORw0KGgo="])
    """The image file in base64 (inline)."""
    uri: str | None = None
    """Where the image file is (reference)."""
    media_type: str = Field(examples=["image/png"])
    """Media type of the file."""
    width: int = Field(ge=1, examples=[128])
    """Pixels."""
    height: int = Field(ge=1, examples=[128])
    """Pixels."""
    seed: int = Field(ge=0, le=MAX_SEED, examples=[1234])
    """Seed of this image's generator."""
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    """SHA-256 of the image file, lower-case hex."""
    nsfw: bool | None = None
    """Verdict of the model's safety checker; null when it has none."""


class EffectiveParameters(Message):
    """Every request field with the value that was used."""

    prompt: str
    negative_prompt: str | None = None
    model: str | None = None
    width: int | None = None
    height: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    num_images_per_prompt: int = 1
    seed: list[int] = Field(default_factory=list)
    """One per image."""
    scheduler: str | None = None
    loras: list[LoRA] = Field(default_factory=list)
    output_format: OutputFormat = OutputFormat.PNG
    output_quality: int | None = None
    response: ResponseKind = ResponseKind.INLINE
    previews: int = 0
    strict: bool = False


class Text2ImageResult(JobResult):
    """The outcome of a text2image job, with the images when it succeeded."""

    model: str | None = Field(default=None, examples=["stabilityai/sdxl-turbo"])
    """Model that made the images."""
    revision: str | None = None
    """Revision of the model."""
    images: list[GeneratedImage] = Field(default_factory=list)
    """The images, in order of `index`."""
    parameters: EffectiveParameters | None = None
    """Effective values of every request field; null when the job never started."""
    identity: Identity | None = Field(default=None, examples=["exact"])
    """How close the images are to the same request run alone."""


TEXT2IMAGE: Final[Literal["text2image"]] = "text2image"
"""Name of the service: its queue, and the first word of its routing keys."""
