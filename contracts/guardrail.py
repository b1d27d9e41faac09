"""A text to be judged by policies, and the verdict; after OPEA's guardrail microservice."""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from contracts import examples
from contracts.aliases import describe_job_id, renamed, without_job_id
from contracts.message import Message, Metadata, example
from contracts.result import JobResult

GUARDRAIL: Final[Literal["guardrail"]] = "guardrail"
"""Name of the service: its queue, and the first word of its routing keys."""
MAX_TEXT_CHARS: Final = 32_000
ALIASES: Final = {"prompt": "text", "query": "text"}
"""Other names of `text`, as the requests of other services spell it."""
EVERYTHING: Final = ".*"
"""In `downstream_black_list`: no later stage may run."""


def _describe_input(schema: dict[str, Any]) -> None:
    fields = schema["properties"]
    for alias in ALIASES:
        fields[alias] = {"type": "string", "description": "Alias of text."}
    describe_job_id(schema)
    del schema["required"]
    schema["anyOf"] = [{"required": [name]} for name in ("text", *ALIASES)]
    schema["examples"] = [{"text": examples.PROMPT}]


class GuardrailRequest(Message):
    """A text to be judged."""

    model_config = ConfigDict(json_schema_extra=_describe_input)

    text: Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARS)] = Field(
        examples=[examples.PROMPT]
    )
    """What is judged; passed on as it is when nothing is wrong with it."""
    metadata: Metadata = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _aliases(cls, data: Any) -> Any:
        return renamed(without_job_id(data), ALIASES) if isinstance(data, dict) else data


class ViolationKind(StrEnum):
    """What noticed a violation."""

    DENY_LIST = "deny_list"
    PATTERN = "pattern"
    MODEL = "model"


class Violation(Message):
    """A policy that a text violates, and where; the text itself is not quoted."""

    model_config = example(
        policy="weapons",
        kind="deny_list",
        detail="entry 2 of the deny-list, characters 14 to 23",
        start=14,
        end=23,
    )

    policy: str = Field(examples=["weapons"])
    """Name of the policy."""
    kind: ViolationKind = Field(examples=["deny_list"])
    """What noticed it."""
    detail: str = Field(examples=["entry 2 of the deny-list, characters 14 to 23"])
    """Which rule, and where."""
    start: int | None = Field(default=None, ge=0, examples=[14])
    """First character; null when the whole text is meant."""
    end: int | None = Field(default=None, ge=0, examples=[23])
    """The character after the last one."""


class GuardrailResult(JobResult):
    """The verdict: `flagged` or not. A flagged text is a job that succeeded."""

    model_config = example(
        job_id=examples.JOB_ID,
        status="succeeded",
        text=examples.PROMPT,
        flagged=False,
        violations=[],
        downstream_black_list=[],
    )

    text: str | None = Field(default=None, examples=[examples.PROMPT])
    """The text that was judged; of a flagged one, a sentence that names the violated policies."""
    flagged: bool = Field(default=False, examples=[False])
    """Whether the text violates a policy, or could not be judged in time."""
    violations: list[Violation] = Field(default_factory=list)
    """The first violation of each rule."""
    downstream_black_list: list[str] = Field(default_factory=list, examples=[[]])
    """Patterns of the names of later stages that must not run: `.*` when flagged."""
