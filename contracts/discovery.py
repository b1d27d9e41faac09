"""Who is there: the vocabulary of NATS micro (ADR-32) on a topic exchange."""

from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import Field

from contracts import examples
from contracts.message import Message, example

ANNOUNCE_INTERVAL_SECONDS: Final = 5.0
ANNOUNCE_JITTER_SECONDS: Final = 0.5
ANNOUNCE_TTL_SECONDS: Final = 15.0


class Verb(StrEnum):
    """What a listener may ask; the first word of the routing key."""

    PING = "ping"
    INFO = "info"
    STATS = "stats"


class NodeState(StrEnum):
    """Whether a node takes work."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    UNHEALTHY = "unhealthy"


class ServiceQuestion(Message):
    """`ping`, `info` or `stats`; the answer goes to routing key `reply.<asker>`."""

    model_config = example(asker="cli-2f6a")

    asker: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", examples=["cli-2f6a"])
    """Instance id of who asks."""


class ModelLimits(Message):
    """Bounds that one model puts on a request."""

    model_config = example(**examples.LIMITS)

    min_pixels: int = Field(ge=1, examples=[64])
    """Smallest width and height."""
    max_pixels: int = Field(ge=1, examples=[1024])
    """Largest width and height."""
    size_granularity: int = Field(default=8, ge=1, examples=[8])
    """Width and height are multiples of this."""
    max_images: int = Field(ge=1, examples=[4])
    """Largest num_images_per_prompt."""
    max_inference_steps: int = Field(ge=1, examples=[100])
    """Largest num_inference_steps."""
    max_prompt_chars: int = Field(default=4000, ge=1)
    """Longest prompt."""


class ModelInfo(Message):
    """A model that a node offers."""

    model_config = example(**examples.MODEL)

    id: str = Field(examples=[examples.MODEL_ID])
    """Name to put into a request."""
    revision: str | None = None
    """Pinned revision."""
    family: str | None = Field(default=None, examples=["StableDiffusionPipeline"])
    """Class of the Diffusers pipeline; null until loaded."""
    warm: bool = Field(examples=[True])
    """Whether it is loaded and has made an image."""
    default: bool = False
    """Whether requests without a model get this one."""
    native_width: int | None = Field(default=None, examples=[512])
    """Pixels; null until loaded."""
    native_height: int | None = Field(default=None, examples=[512])
    """Pixels; null until loaded."""
    limits: ModelLimits
    """Bounds on requests."""
    schedulers: list[str] = Field(default_factory=list)
    """Noise schedulers that a request may name."""
    loras: list[str] = Field(default_factory=list)
    """LoRAs that a request may name."""


class LoadState(Message):
    """How far fetching and loading of a model has come."""

    model_config = example(
        stage="downloading",
        model=examples.MODEL_ID,
        files_done=3,
        files_total=19,
        bytes_done=1_000_000_000,
        bytes_total=6_900_000_000,
    )

    stage: Literal["downloading", "loading", "warming_up"] = Field(examples=["downloading"])
    """What is going on."""
    model: str = Field(examples=[examples.MODEL_ID])
    """Which model."""
    files_done: int = Field(default=0, ge=0)
    """Files finished."""
    files_total: int | None = None
    """Files in all, when known."""
    bytes_done: int = Field(default=0, ge=0)
    """Bytes finished."""
    bytes_total: int | None = None
    """Bytes in all, when known."""


class ServiceMetadata(Message):
    """What a node is, as OPEA and schedulers of work want to know it."""

    model_config = example(**examples.METADATA)

    service_type: str = Field(examples=["TEXT2IMAGE"])
    """OPEA service type."""
    state: NodeState = Field(examples=["ready"])
    """Whether it takes work."""
    state_reason: str | None = None
    """Why it takes none."""
    models: list[ModelInfo] = Field(default_factory=list)
    """Models it offers."""
    device: str | None = Field(default=None, examples=["cpu"])
    """torch device; null while starting."""
    device_reason: str | None = None
    """Why this device was chosen."""
    dtype: str | None = Field(default=None, examples=["float32"])
    """torch dtype of the weights."""
    loading: LoadState | None = None
    """What is being fetched or loaded, if anything."""
    memory_total_bytes: int | None = None
    """Memory of the device."""
    memory_free_bytes: int | None = None
    """Free memory of the device."""
    slots_total: int = Field(default=1, ge=0)
    """Jobs that run at the same time."""
    slots_busy: int = Field(default=0, ge=0)
    """Jobs that run now."""
    local_queue_depth: int = Field(default=0, ge=0)
    """Jobs delivered to the node and waiting in it."""
    p50_seconds_per_image: float | None = None
    """Median of the latest images."""
    http_port: int | None = None
    """Port of health and metrics."""
    asyncapi_sha256: str | None = None
    """Hash of the AsyncAPI document that the node implements."""


class Endpoint(Message):
    """Where requests to a service go."""

    model_config = example(**examples.ENDPOINT)

    name: str = Field(examples=["text2image"])
    """Name of the endpoint."""
    subject: str = Field(examples=["text2image"])
    """Routing key on the exchange of requests."""
    queue_group: str = Field(examples=["text2image"])
    """Queue that the instances share."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Free text."""


class EndpointStats(Endpoint):
    """An endpoint with what it has done so far."""

    model_config = example(**examples.STATS)

    num_requests: int = Field(ge=0, examples=[12])
    """Requests settled since the start."""
    num_errors: int = Field(ge=0, examples=[1])
    """Those that failed."""
    last_error: str | None = None
    """Detail of the latest failure."""
    processing_time: float = Field(ge=0, examples=[13.2])
    """Seconds of work in all."""
    average_processing_time: float = Field(ge=0, examples=[1.1])
    """Seconds of work a request."""
    data: dict[str, Any] = Field(default_factory=dict)
    """More figures of this service."""


class _Service(Message):
    name: str = Field(examples=["text2image"])
    """Name of the service."""
    id: str = Field(examples=["6f1c2a"])
    """Instance id, unique among running processes."""
    version: str = Field(examples=["0.1.0"])
    """Version of the service."""
    metadata: ServiceMetadata
    """What it is and how it does."""


class PingReply(_Service):
    """Answer to `ping`: I am here."""

    model_config = example(
        type="io.nats.micro.v1.ping_response",
        **examples.SERVICE,
        **examples.ORDER,
        ttl_seconds=15.0,
    )

    type: Literal["io.nats.micro.v1.ping_response"] = "io.nats.micro.v1.ping_response"
    """Kind of message."""
    ttl_seconds: float = Field(default=ANNOUNCE_TTL_SECONDS, gt=0)
    """How long the answer holds, on the listener's own clock."""
    incarnation: int = Field(ge=0, examples=[1_769_860_800_000])
    """Start of the process in Unix milliseconds: a restart has a higher one."""
    seq: int = Field(ge=0, examples=[7])
    """Number of the latest announcement."""


class InfoReply(_Service):
    """Answer to `info`: what I offer."""

    model_config = example(
        type="io.nats.micro.v1.info_response", **examples.SERVICE, **examples.OFFER
    )

    type: Literal["io.nats.micro.v1.info_response"] = "io.nats.micro.v1.info_response"
    """Kind of message."""
    description: str = Field(examples=["Makes images from text with Diffusers"])
    """What the service does."""
    endpoints: list[Endpoint]
    """Where requests go."""


class StatsReply(_Service):
    """Answer to `stats`: what I have done."""

    model_config = example(
        type="io.nats.micro.v1.stats_response",
        **examples.SERVICE,
        started=examples.TIME,
        endpoints=[examples.STATS],
    )

    type: Literal["io.nats.micro.v1.stats_response"] = "io.nats.micro.v1.stats_response"
    """Kind of message."""
    started: str = Field(examples=[examples.TIME])
    """Start of the process, RFC 3339."""
    endpoints: list[EndpointStats]
    """Figures by endpoint."""


class Announcement(_Service):
    """I am here and this is how I do; sent every few seconds."""

    model_config = example(
        type="announce", **examples.SERVICE, **examples.OFFER, **examples.ORDER, ttl_seconds=15.0
    )

    type: Literal["announce"] = "announce"
    """Kind of message."""
    description: str = Field(examples=["Makes images from text with Diffusers"])
    """What the service does."""
    endpoints: list[Endpoint]
    """Where requests go."""
    ttl_seconds: float = Field(default=ANNOUNCE_TTL_SECONDS, gt=0)
    """How long the announcement holds, on the listener's own clock."""
    incarnation: int = Field(ge=0, examples=[1_769_860_800_000])
    """Start of the process in Unix milliseconds: a restart has a higher one."""
    seq: int = Field(ge=0, examples=[7])
    """Number of the announcement within the incarnation."""


class Goodbye(Message):
    """I take no more work."""

    model_config = example(
        type="goodbye", name="text2image", id="6f1c2a", **examples.ORDER, reason="draining"
    )

    type: Literal["goodbye"] = "goodbye"
    """Kind of message."""
    name: str = Field(examples=["text2image"])
    """Name of the service."""
    id: str = Field(examples=["6f1c2a"])
    """Instance id."""
    incarnation: int = Field(ge=0, examples=[1_769_860_800_000])
    """As in the announcements."""
    seq: int = Field(ge=0, examples=[7])
    """Higher than that of every announcement before."""
    reason: str = Field(examples=["draining"])
    """Why, in one word."""
