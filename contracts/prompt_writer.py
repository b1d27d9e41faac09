"""A request to write a prompt for a picture model, and its result."""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, model_validator

from contracts import examples
from contracts.aliases import describe_job_id, renamed, without_job_id
from contracts.message import Message, Metadata, example
from contracts.result import JobResult
from contracts.text2image import Prompt

PROMPT_WRITER: Final[Literal["prompt-writer"]] = "prompt-writer"
"""Name of the service: its queue, and the first word of its routing keys."""
MAX_NEW_TOKENS: Final = 1024
EXAMPLE_TEXT: Final = "a cosmonaut on the back of an emerald stallion"

ALIASES: Final = {"query": "text", "prompt": "text", "max_tokens": "max_new_tokens"}
"""Other spellings: OPEA's and OpenAI's."""


def _describe_input(schema: dict[str, Any]) -> None:
    """Add to the JSON Schema what validators accept beyond the fields' own names."""
    fields = schema["properties"]
    for alias, field in ALIASES.items():
        fields[alias] = {**fields[field], "description": f"Alias of {field}."}
    describe_job_id(schema)
    schema["anyOf"] = [{"required": [name]} for name in ("text", "query", "prompt")]
    del schema["required"]
    schema["examples"] = [{"text": EXAMPLE_TEXT}, {"query": EXAMPLE_TEXT, "max_tokens": 32}]


class PromptWriterRequest(Message):
    """Free text that becomes a prompt; `query` and `prompt` are other names of `text`."""

    model_config = ConfigDict(json_schema_extra=_describe_input)

    text: Prompt = Field(examples=[EXAMPLE_TEXT])
    """What a person wants to see; 1..4000 characters after stripping."""
    max_new_tokens: Annotated[int, Field(strict=True, ge=1, le=MAX_NEW_TOKENS)] | None = Field(
        default=None, examples=[32]
    )
    """Longest prompt, in tokens of the model; null is the model's own default."""
    metadata: Metadata = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _aliases(cls, data: Any) -> Any:
        return renamed(without_job_id(data), ALIASES) if isinstance(data, dict) else data


class PromptWriterResult(JobResult):
    """The outcome of a prompt-writer job, with the prompt when it succeeded."""

    model_config = example(
        job_id=examples.JOB_ID,
        status="succeeded",
        text="an astronaut riding a green horse",
        model="emoji-prompt-writer",
    )

    text: str | None = Field(default=None, examples=["an astronaut riding a green horse"])
    """The prompt."""
    model: str | None = Field(default=None, examples=["emoji-prompt-writer"])
    """Model that wrote it."""
    revision: str | None = Field(default=None, examples=["main"])
    """Revision of the model."""
