"""The base of every message, job ids, and the AMQP properties and headers they travel with."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from contracts import examples

JSON_CONTENT_TYPE: Final = "application/json"

# AMQP header names. The attempt count is ours: brokers count `x-death` differently.
HEADER_ATTEMPT: Final = "x-attempt"
HEADER_REPLAY: Final = "x-replay"
HEADER_TRACEPARENT: Final = "traceparent"
HEADER_TRACESTATE: Final = "tracestate"
HEADER_DEAD_CODE: Final = "x-dead-code"
HEADER_DEAD_DETAIL: Final = "x-dead-detail"
HEADER_DEAD_TIME: Final = "x-dead-time"
CLOUDEVENTS_PREFIX: Final = "cloudEvents_"
CLOUDEVENTS_PREFIXES: Final = ("cloudEvents_", "cloudEvents:")
HEADER_EXPIRYTIME: Final = CLOUDEVENTS_PREFIX + "expirytime"

HIGH_PRIORITY: Final = 5
"""AMQP priority from which a request counts as urgent."""

MAX_SEED: Final = 2**63 - 1
METADATA_MAX_BYTES: Final = 4096
MAX_FIELDS: Final = 64

# Visible ASCII without the wildcards of topic exchanges (`*`, `#`) and without white space.
JobId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:~@/+=-]*$"),
    Field(
        description="Id of a job, chosen by the caller; the same id again is the same job.",
        examples=[examples.JOB_ID],
    ),
]


class Message(BaseModel):
    """A JSON object on the wire: immutable, unknown fields refused, no NaN or infinity."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        validate_by_name=True,
        validate_by_alias=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, data: Any) -> Any:
        # An error for each of a million unknown fields would keep a reader busy for seconds.
        if isinstance(data, dict) and len(data) > MAX_FIELDS:
            raise ValueError(f"has {len(data)} fields, at most {MAX_FIELDS} are read")
        return data

    def to_json(self) -> bytes:
        """Encode as UTF-8 JSON."""
        return self.model_dump_json().encode()


def example(**fields: Any) -> ConfigDict:
    """Give a message class its example, for the JSON Schema and the AsyncAPI document."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


class AnyMessage(Message):
    """A message whose own fields are not known here: they pass through."""

    model_config = ConfigDict(extra="allow", **example(text="a red cat"))


def _metadata_is_small(metadata: Any) -> Any:
    if isinstance(metadata, dict) and len(metadata) > METADATA_MAX_BYTES:
        raise ValueError(f"metadata has {len(metadata)} entries, more than fit into 4 KiB")
    return metadata


def _metadata_fits(metadata: dict[str, str]) -> dict[str, str]:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    if size > METADATA_MAX_BYTES:
        raise ValueError(f"metadata takes {size} bytes, at most {METADATA_MAX_BYTES} are echoed")
    return metadata


Metadata = Annotated[
    dict[str, str],
    BeforeValidator(_metadata_is_small),
    AfterValidator(_metadata_fits),
    Field(
        description="Strings echoed untouched in the result; at most 4 KiB in all.",
        examples=[{"album": "space"}],
    ),
]


def parse_expirytime(value: object) -> float:
    """Read an absolute RFC 3339 deadline (text or an AMQP timestamp) as Unix seconds.

    Raises ValueError when it is neither, or when the text names no time zone.
    """
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
        if value.tzinfo is None:
            raise ValueError("a deadline needs a time zone, for example 2026-01-31T12:00:00Z")
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    raise ValueError(f"a deadline is an RFC 3339 time, not {type(value).__name__}")


def format_time(unix_seconds: float) -> str:
    """Write Unix seconds as RFC 3339 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(unix_seconds, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cloudevents_attribute(headers: Mapping[str, Any], name: str) -> Any | None:
    """Find a CloudEvents attribute in AMQP headers under either accepted prefix."""
    for prefix in CLOUDEVENTS_PREFIXES:
        if prefix + name in headers:
            return headers[prefix + name]
    return None
