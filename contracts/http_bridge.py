"""A request to an HTTP service behind a bridge, and its answer.

What the HTTP service reads and answers is its own contract (OPEA's, OpenAI's); these messages carry
it unchanged.
"""

from pydantic import ConfigDict, Field, JsonValue

from contracts import examples
from contracts.message import Message, Metadata, example
from contracts.result import JobResult


class BridgeRequest(Message):
    """Any JSON object; all but `metadata` is posted to the HTTP service as it is."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [{"messages": [{"role": "user", "content": "What is a horse?"}]}]
        },
    )
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)

    metadata: Metadata = Field(default_factory=dict)

    @property
    def body(self) -> dict[str, JsonValue]:
        """What is posted."""
        return dict(self.__pydantic_extra__)


class BridgeResult(JobResult):
    """What the HTTP service answered."""

    model_config = example(
        job_id=examples.JOB_ID,
        status="succeeded",
        output={"choices": [{"message": {"role": "assistant", "content": "An animal."}}]},
    )

    output: JsonValue = Field(default=None, examples=[{"text": "An animal."}])
    """JSON as it was answered; text and joined event streams as `{"text": …}`, events that are no
    text as `{"events": […]}`, anything else as `{"b64_json": …, "media_type": …}`."""
