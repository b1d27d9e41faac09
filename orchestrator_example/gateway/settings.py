"""Settings of the gateway, read once from the environment (`GATEWAY_…`) and passed on."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from node.settings import CommaSeparated


class GatewaySettings(BaseSettings):
    """What an operator can set; every name has the prefix `GATEWAY_` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        env_ignore_empty=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every one."""
    port: int = Field(default=9379, ge=0, le=65535)
    """Port to listen on; 0 is a free one."""
    public_url: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """Address that callers know the gateway by, for links; unset: the one that they asked."""
    link_secret: SecretStr | None = None
    """Signs links to pictures; give gateways behind one address the same. Unset: a random one."""
    link_seconds: float = Field(default=3600.0, gt=0)
    """How long a link to a picture works."""
    forwarded_allow_ips: str = "127.0.0.1"
    """Proxies whose X-Forwarded-… headers are believed, separated by commas."""
    hosts: CommaSeparated = []
    """Names under which the gateway answers, separated by commas; unset: any."""
    cors_origins: CommaSeparated = []
    """Origins whose pages may call, separated by commas; unset: none, * is any."""

    megaservices: CommaSeparated = ["painter", "checked-painter", "best-of", "repainter"]
    """Mega-services to run here, each with an endpoint: entry points, or package.module:Class."""
    openai_models: CommaSeparated = []
    """Models of OpenAI's that stand for the default one, for clients that insist: dall-e-3, say."""
    timeout_seconds: float = Field(default=300.0, gt=0)
    """How long a call that waits for its pictures may take; the job expires then."""
    cancel_on_disconnect: bool = True
    """Cancel the job of a caller who hangs up while waiting for its pictures."""
    grace_seconds: float = Field(default=30.0, ge=0)
    """How long calls may take to finish after SIGTERM."""

    keys_file: Path | None = None
    """YAML file of hashed API keys; unset: everybody may call."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Jobs that a caller may begin a minute, unless its key says otherwise."""
    concurrent: int | None = Field(default=None, ge=1)
    """Jobs that a caller may have at once, unless its key says otherwise."""
    max_body_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    """Larger request bodies are refused; RabbitMQ takes no message over 16 MiB."""
    body_seconds: float = Field(default=60.0, gt=0)
    """How long a request body may take to arrive."""

    max_jobs: int = Field(default=1000, ge=1)
    """Jobs that may be on their way at once."""
    job_seconds: float = Field(default=3600.0, gt=0)
    """How long an ended job is remembered."""
    job_bytes: int = Field(default=1024 * 1024 * 1024, ge=0)
    """Memory for ended jobs, the oldest of which go first; as much for requests on their way."""
    job_store: str | None = None
    """fsspec URL where jobs of `/v1/jobs` outlive the gateway, e.g. file:///srv/gateway."""
