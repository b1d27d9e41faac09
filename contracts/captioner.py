"""A request to caption pictures and to say whether they show a prompt, and its result."""

from typing import Any, Final, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from contracts import examples
from contracts.aliases import describe_job_id, without_job_id
from contracts.message import Message, Metadata, example
from contracts.picture import Picture
from contracts.result import JobResult
from contracts.text2image import Prompt

CAPTIONER: Final[Literal["captioner"]] = "captioner"
"""Name of the service: its queue, and the first word of its routing keys."""
MAX_PICTURES: Final = 16
EXAMPLE_CAPTION: Final = "an astronaut riding a green horse on a white background"


def _describe_input(schema: dict[str, Any]) -> None:
    """Add to the JSON Schema what validators accept beyond the fields' own types."""
    schema["properties"]["prompt"]["anyOf"].insert(1, {"const": ""})
    describe_job_id(schema)
    schema["examples"] = [
        {"image": "iVBORw0KGgo=", "prompt": examples.PROMPT},
        {"images": [examples.IMAGE]},
    ]


class CaptionerRequest(Message):
    """One picture as `image`, or several as `images`, and perhaps the prompt they should show."""

    model_config = ConfigDict(json_schema_extra=_describe_input)

    image: Picture | None = None
    """The one picture; exactly one of `image` and `images` is given."""
    images: list[Picture] = Field(default_factory=list, max_length=MAX_PICTURES)
    """Pictures to caption, and to choose the best of."""
    prompt: Prompt | None = Field(default=None, examples=[examples.PROMPT])
    """What the pictures should show; null or blank: they are captioned only."""
    metadata: Metadata = Field(default_factory=dict)

    @property
    def pictures(self) -> list[Picture]:
        """The pictures, however they were given."""
        return self.images if self.image is None else [self.image]

    @model_validator(mode="before")
    @classmethod
    def _without_job_id(cls, data: Any) -> Any:
        return without_job_id(data) if isinstance(data, dict) else data

    @field_validator("prompt", mode="before")
    @classmethod
    def _blank_is_none(cls, value: Any) -> Any:
        # OPEA clients send "" where they mean none.
        return None if isinstance(value, str) and not value.strip() else value

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if (self.image is None) == (not self.images):
            raise ValueError("give image, or images with at least one, and not both")
        return self


class Caption(Message):
    """What one picture shows, and how well that is what was asked for."""

    model_config = example(index=0, text=EXAMPLE_CAPTION, score=0.98, matches=True)

    index: int = Field(ge=0, examples=[0])
    """Position of the picture in the request, from 0."""
    text: str = Field(examples=[EXAMPLE_CAPTION])
    """The picture in words."""
    score: float | None = Field(default=None, ge=0, le=1, examples=[0.98])
    """How well it shows the prompt; null without a prompt, or where that cannot be judged."""
    matches: bool | None = Field(default=None, examples=[True])
    """Whether it shows all that the prompt asks for; null where `score` is."""


class CaptionerResult(JobResult):
    """The outcome of a captioner job, with the captions when it succeeded."""

    model_config = example(
        job_id=examples.JOB_ID,
        status="succeeded",
        text=EXAMPLE_CAPTION,
        captions=[{"index": 0, "text": EXAMPLE_CAPTION, "score": 0.98, "matches": True}],
        matches=True,
        best=0,
        model="emoji-captioner",
    )

    text: str | None = Field(default=None, examples=[EXAMPLE_CAPTION])
    """Caption of the best picture, of the first one where none is best."""
    captions: list[Caption] = Field(default_factory=list)
    """One for each picture, in order of `index`."""
    matches: bool | None = Field(default=None, examples=[True])
    """Whether the best picture shows all that the prompt asks for; null where no best is."""
    best: int | None = Field(default=None, examples=[0])
    """Index of the picture that shows the prompt best; null where none can be judged."""
    model: str | None = Field(default=None, examples=["emoji-captioner"])
    """Model that captioned."""
    revision: str | None = Field(default=None, examples=["main"])
    """Revision of the model."""
