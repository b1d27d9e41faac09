"""A request for images in the spelling of Diffusers, and its result."""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from contracts import examples
from contracts.aliases import describe_aliases, without_aliases
from contracts.message import MAX_SEED, Message, Metadata, example
from contracts.result import JobResult

MAX_PROMPT_CHARS: Final = 4000
SIZE_GRANULARITY: Final = 8
MAX_IMAGES: Final = 64
"""Bound of the contract; each node announces a smaller one of its own."""
EXAMPLE_PROMPT: Final = examples.PROMPT


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL characters")
    return text


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


Prompt = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_PROMPT_CHARS),
    AfterValidator(_without_nul),
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


def describe_input(schema: dict[str, Any]) -> None:
    """Add to the JSON Schema what validators accept beyond the fields' own types."""
    describe_aliases(schema)
    fields = schema["properties"]
    fields["seed"]["anyOf"].insert(1, {"const": -1})
    one = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1}
    fields["negative_prompt"]["anyOf"][1:1] = [{"const": ""}, one]
    schema["examples"] = [{"prompt": EXAMPLE_PROMPT, "seed": 42}, examples.OPEA_REQUEST]


class LoRA(Message):
    """A low-rank adaptation by the name that the node announces."""

    model_config = example(name="pixel-art", scale=0.8)

    name: Name = Field(examples=["pixel-art"])
    """Announced name; never a path or URL."""
    scale: float = Field(default=1.0, strict=True, ge=-10, le=10, examples=[0.8])
    """Strength; 1 applies it as trained."""


class Text2ImageRequest(Message):
    """A request for images; null means the model's own default."""

    model_config = ConfigDict(json_schema_extra=describe_input)

    prompt: Prompt = Field(examples=[EXAMPLE_PROMPT])
    """What the images show; 1..4000 characters after stripping."""
    negative_prompt: Prompt | None = Field(default=None, examples=["blurry, low quality"])
    """What the images avoid; null or blank: nothing. A list of one is taken as its element."""
    model: ModelId | None = Field(default=None, examples=[examples.MODEL_ID])
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
    seed: Seed | Annotated[list[Seed], Field(max_length=MAX_IMAGES)] | None = Field(
        default=None, examples=[42]
    )
    """One seed (image i gets seed + i), or one per image; null or -1 is random."""
    scheduler: Name | None = Field(default=None, examples=[examples.SCHEDULER])
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
        return without_aliases(data) if isinstance(data, dict) else data

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
    def _one_seed_or_several(cls, value: Any) -> Any:
        if value is None or (_is_int(value) and value == -1):
            return None
        seeds = value if isinstance(value, list) else [value]
        if len(seeds) > MAX_IMAGES:
            raise ValueError(f"lists {len(seeds)} numbers, at most {MAX_IMAGES} are read")
        if not all(_is_int(seed) and 0 <= seed <= MAX_SEED for seed in seeds):
            raise ValueError("takes a whole number from 0 to 2^63-1, or one for each image")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.seed, list) and len(self.seed) != self.num_images_per_prompt:
            raise ValueError(
                f"seed lists {len(self.seed)} numbers for {self.num_images_per_prompt} images"
            )
        if self.output_quality is not None and self.output_format is OutputFormat.PNG:
            raise ValueError("output_quality applies to jpeg and webp, png is lossless")
        return self


class GeneratedImage(Message):
    """One image: its bytes inline or by reference, and how it came about."""

    model_config = example(**examples.IMAGE)

    index: int = Field(ge=0, examples=[0])
    """Position in the request, from 0."""
    b64_json: str | None = Field(default=None, examples=["iVBORw0KGgo="])
    """The image file in base64 (inline)."""
    uri: str | None = Field(default=None, examples=["file:///srv/images/4c/4c4b6a3b.png"])
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
        examples=[examples.IMAGE["sha256"]],
    )
    """SHA-256 of the image file, lower-case hex."""
    nsfw: bool | None = None
    """Verdict of the model's safety checker; null when it has none."""


class EffectiveParameters(Message):
    """Every request field with the value that was used."""

    model_config = example(**examples.PARAMETERS)

    prompt: str = Field(examples=[EXAMPLE_PROMPT])
    """What the images show, stripped."""
    negative_prompt: str | None = None
    """What the images avoid."""
    model: str | None = Field(default=None, examples=[examples.MODEL_ID])
    """Model that made the images."""
    width: int | None = Field(default=None, examples=[128])
    """Pixels."""
    height: int | None = Field(default=None, examples=[128])
    """Pixels."""
    num_inference_steps: int | None = Field(default=None, examples=[25])
    """Denoising iterations."""
    guidance_scale: float | None = Field(default=None, examples=[7.5])
    """Strength of classifier-free guidance."""
    num_images_per_prompt: int = 1
    """How many images were asked for."""
    seed: list[int] = Field(default_factory=list, examples=[[1234]])
    """One per image."""
    scheduler: str | None = Field(default=None, examples=[examples.SCHEDULER])
    """Noise scheduler."""
    loras: list[LoRA] = Field(default_factory=list)
    """LoRAs that were applied."""
    output_format: OutputFormat = OutputFormat.PNG
    """File format of the images."""
    output_quality: int | None = None
    """Compression quality; null for png."""
    response: ResponseKind = ResponseKind.INLINE
    """How the image bytes were asked for."""
    previews: int = 0
    """How many preview images were asked for."""
    strict: bool = False
    """Whether only bytes equal to the request run alone would do."""


class Text2ImageResult(JobResult):
    """The outcome of a text2image job, with the images when it succeeded."""

    model_config = example(
        job_id=examples.JOB_ID,
        status="succeeded",
        model=examples.MODEL_ID,
        revision="main",
        images=[examples.IMAGE],
        parameters=examples.PARAMETERS,
        identity="exact",
        warnings=[],
        metadata={},
        timings=examples.TIMINGS,
        node=examples.NODE,
        error=None,
    )

    model: str | None = Field(default=None, examples=[examples.MODEL_ID])
    """Model that made the images."""
    revision: str | None = Field(default=None, examples=["main"])
    """Revision of the model."""
    images: list[GeneratedImage] = Field(default_factory=list)
    """The images, in order of `index`."""
    parameters: EffectiveParameters | None = None
    """Effective values of every request field; null when the job never started."""
    identity: Identity | None = Field(default=None, examples=["exact"])
    """How close the images are to the same request run alone."""


TEXT2IMAGE: Final[Literal["text2image"]] = "text2image"
"""Name of the service: its queue, and the first word of its routing keys."""
