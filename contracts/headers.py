"""The AMQP properties and headers that messages travel with, as types for documents.

Nodes read them leniently: a message from any AMQP client brings headers of its own.
"""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from contracts import examples
from contracts.message import (
    HEADER_ATTEMPT,
    HEADER_DEAD_CODE,
    HEADER_DEAD_DETAIL,
    HEADER_DEAD_TIME,
    HEADER_EXPIRYTIME,
    HEADER_REPLAY,
    JSON_CONTENT_TYPE,
    JobId,
)

_CLOUDEVENTS: Final[dict[str, Any]] = {
    "patternProperties": {
        "^cloudEvents[_:]": {"description": "CloudEvents attributes in binary mode."}
    }
}


class RequestProperties(BaseModel):
    """AMQP basic properties of a request; each may be missing."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    message_id: JobId | None = None
    """The job id. The same id again is the same job; with another body it is refused."""
    correlation_id: str | None = Field(default=None, max_length=255)
    """Echoed on every message about the job."""
    reply_to: str | None = Field(default=None, max_length=255, examples=["amq.gen-example"])
    """Queue that the result goes to; missing: the exchange of results."""
    content_type: str = Field(default=JSON_CONTENT_TYPE, examples=[JSON_CONTENT_TYPE])
    """Anything but JSON is refused."""
    expiration: str | None = Field(default=None, pattern="^[0-9]+$", examples=["60000"])
    """Deadline in milliseconds from the timestamp, or from delivery where there is none."""
    priority: int = Field(default=0, ge=0, le=255)
    """0 normal, 5 and more urgent: the publisher's client picks the queue by it."""
    timestamp: int | None = Field(default=None, ge=0, examples=[1_769_860_800])
    """When it was published, in Unix seconds."""


class AnswerHeaders(BaseModel):
    """Headers of a request that are passed through to its result and events."""

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_extra=_CLOUDEVENTS)

    traceparent: str | None = Field(
        default=None, examples=["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]
    )
    """W3C trace context."""
    tracestate: str | None = Field(default=None, examples=["vendor=value"])
    """W3C trace context of vendors."""


class RequestHeaders(AnswerHeaders):
    """Headers of a request; each may be missing."""

    attempt: int = Field(default=1, ge=1, alias=HEADER_ATTEMPT)
    """How many times the job has been tried, this one included; set by nodes."""
    replay: int = Field(default=0, ge=0, alias=HEADER_REPLAY)
    """How often a person took the request out of the dead-letter queue."""
    expirytime: str | None = Field(
        default=None,
        alias=HEADER_EXPIRYTIME,
        examples=[examples.TIME],
        json_schema_extra={"format": "date-time"},
    )
    """Deadline, RFC 3339: past it the job never starts, and a running one stops."""


class DeadLetterHeaders(RequestHeaders):
    """Headers of a request that a node put aside: why it can never succeed."""

    dead_code: str = Field(alias=HEADER_DEAD_CODE, examples=["invalid_request"])
    """Failure code."""
    dead_detail: str = Field(alias=HEADER_DEAD_DETAIL, examples=["the body is not JSON"])
    """What went wrong."""
    dead_time: str = Field(alias=HEADER_DEAD_TIME, examples=[examples.TIME])
    """When, RFC 3339."""
