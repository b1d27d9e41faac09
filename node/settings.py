"""Settings of a node, read once from the environment (`NODE_…`) and passed on."""

import json
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AliasChoices, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contracts.text2image import TEXT2IMAGE

DEFAULT_AMQP_URL = "amqp://guest:guest@localhost:5672/"


def _split_at_commas(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip().startswith("["):
        return json.loads(value)
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


# `NODE_MODELS=a,b` is easier to type than a JSON list, which is accepted as well.
CommaSeparated = Annotated[list[str], NoDecode, BeforeValidator(_split_at_commas)]


class Settings(BaseSettings):
    """What an operator can set; every name has the prefix `NODE_` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="NODE_",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        populate_by_name=True,
        env_ignore_empty=True,
        protected_namespaces=(),
    )

    amqp_url: CommaSeparated = [DEFAULT_AMQP_URL]
    """Broker; several URLs, separated by commas, are tried in turn."""
    heartbeat_seconds: int = Field(default=12, ge=2, le=60)
    """AMQP heartbeat."""
    publish_timeout_seconds: float = Field(default=15.0, gt=0)
    """Bound on waiting for one publisher confirm."""
    configure_topology: bool = True
    """Declare exchanges and queues at start; off: only check that they are there."""
    verify_announcers: bool = False
    """Believe only announcements of broker users named like their service (docs/discovery.md)."""

    component: str = TEXT2IMAGE
    """Components to serve, separated by commas: entry points, or package.module:Class."""
    instance_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Id of this process; unset: random."""
    slots: int = Field(default=1, ge=1, le=256)
    """Jobs that run at the same time; unset: what the component suggests, one for most."""
    look_ahead: int = Field(default=1, ge=0, le=64)
    """Jobs fetched beyond those that run."""
    grace_seconds: float = Field(default=120.0, ge=0)
    """How long running jobs may take to finish after SIGTERM."""
    stall_seconds: float = Field(default=600.0, gt=0)
    """A job that gives no sign of life for so long is given up, and the node starts anew."""
    max_failed_jobs: int = Field(default=3, ge=1)
    """So many jobs in a row that fail by the node's own fault make it start anew."""
    max_request_bytes: int = Field(default=1_048_576, ge=1024)
    """Larger request bodies are refused unread; unset: what the component suggests."""
    max_inline_bytes: int = Field(default=12 * 1024 * 1024, ge=1024)
    """Larger results are put into the artifact store."""
    result_seconds: float = Field(default=3600.0, gt=0)
    """How long a result is kept, and replayed when its request comes again."""
    recent_results: int = Field(default=64, ge=1)
    """Results kept in memory."""
    recent_results_bytes: int = Field(default=256 * 1024 * 1024, ge=0)
    """Memory bound of the results kept."""
    result_store: str | None = None
    """fsspec URL where nodes share results, so that a fleet does a job once; e.g. s3://bucket/jobs."""
    artifact_store: str | None = None
    """fsspec URL for `reference` responses and large results, e.g. file:///srv/images."""
    artifact_seconds: float = Field(default=7 * 24 * 3600.0, gt=0)
    """How long files stay in the artifact store."""

    http_host: str = "127.0.0.1"
    """Address of health and metrics."""
    http_port: int = Field(default=8081, ge=0, le=65535)
    """Port of health and metrics; when it is taken, a free one."""

    model: str | None = Field(
        default=None, validation_alias=AliasChoices("NODE_MODEL", "MODEL", "model")
    )
    """Default model: hub id or local folder; id@revision pins a revision. OPEA's MODEL is read."""
    models: CommaSeparated = []
    """Further models that requests may name, separated by commas."""
    loras: CommaSeparated = []
    """LoRAs that requests may name, as name=path-or-hub-id[:weight_name], separated by commas."""
    device: str = "auto"
    """auto, cuda, cuda:1, xpu, hpu, mps, cpu."""
    dtype: str = "auto"
    """auto, float32, bfloat16, float16."""
    offline: bool = False
    """Never ask a model hub."""
    cache_dir: Path | None = None
    """Where models from a hub are kept; unset: Hugging Face's own cache."""
    hf_token: str | None = Field(
        default=None,
        repr=False,
        validation_alias=AliasChoices("HF_TOKEN", "NODE_HF_TOKEN", "hf_token"),
    )
    """Token for gated models."""
    min_pixels: int = Field(default=64, ge=8)
    """Smallest width and height."""
    max_pixels: int = Field(default=1024, ge=8)
    """Largest width and height."""
    max_images: int = Field(default=4, ge=1, le=64)
    """Largest num_images_per_prompt."""
    max_inference_steps: int = Field(default=100, ge=1, le=1000)
    """Largest num_inference_steps."""

    log_format: str = Field(default="auto", pattern="^(auto|json|console)$")
    """json, console, or auto: console on a terminal."""
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """Least level that is logged."""

    def completed(self, **suggested: Any) -> Self:
        """Take what is suggested for settings that nobody set."""
        unset = {
            name: value for name, value in suggested.items() if name not in self.model_fields_set
        }
        return self.model_copy(update=unset)
