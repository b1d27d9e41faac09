"""Settings of the HTTP bridge, read once from the environment (`BRIDGE_…`)."""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError
from yarl import URL

from node.errors import SetupError

OPEA_HEALTH_PATH: Final = "/v1/health_check"
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _http_url(value: str) -> str:
    try:
        url = URL(value)
    except ValueError as error:
        raise ValueError(f"it is no address: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("it must begin with http:// or https:// and name a host")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]


class BridgeSettings(BaseSettings):
    """What an operator can set; every name has the prefix `BRIDGE_` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="BRIDGE_",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    service: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """Name in the mega-service: the queue that requests come from."""
    service_type: str = Field(pattern=r"^[A-Z][A-Z0-9_]{0,62}$")
    """OPEA service type, for example LLM, TTS, ASR, EMBEDDING."""
    url: HttpUrl = Field(repr=False)
    """Full address of the endpoint, for example http://llm:9000/v1/chat/completions."""
    method: Literal["POST", "PUT"] = "POST"
    """How requests are sent."""
    headers: dict[str, SecretStr] = Field(default_factory=dict, repr=False)
    """Further headers as a JSON object, for example {"Authorization": "Bearer …"}; never logged."""
    file_field: str | None = None
    """Field whose base64 is uploaded as a file of a form, as OPEA's ASR wants; unset: JSON."""
    timeout_seconds: float = Field(default=300.0, gt=0)
    """How long one answer may take, its last byte included."""
    connect_seconds: float = Field(default=5.0, gt=0)
    """How long connecting may take."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """Requests that are sent at the same time, unless NODE_SLOTS says otherwise."""
    max_request_bytes: int = Field(default=8 * 1024 * 1024, ge=1024)
    """Larger requests are refused, unless NODE_MAX_REQUEST_BYTES says otherwise."""
    max_response_bytes: int = Field(default=8 * 1024 * 1024, ge=1024)
    """Larger answers are refused; RabbitMQ takes 16 MiB at most, and base64 adds a third."""
    health_url: HttpUrl | None = Field(default=None, repr=False)
    """Asked whether the service is there; unset: /v1/health_check of the same host, OPEA's."""
    health_seconds: float = Field(default=5.0, gt=0)
    """How often it is asked."""

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or not value.get_secret_value().isprintable():
                raise ValueError(f"the header {name[:40]!r} cannot be sent in HTTP")
        return headers

    @model_validator(mode="after")
    def _one_authorization(self) -> Self:
        named = any(name.lower() == "authorization" for name in self.headers)
        if named and URL(self.url).user is not None:
            raise ValueError("the user in BRIDGE_URL and Authorization in BRIDGE_HEADERS: give one")
        return self

    @property
    def health_address(self) -> str:
        """Where the health of the service is asked for."""
        return self.health_url or str(URL(self.url).origin().with_path(OPEA_HEALTH_PATH))

    @classmethod
    def read(cls) -> "BridgeSettings":
        """Read the environment. Raises SetupError, which quotes no value: some are secrets."""
        try:
            return cls()
        except SettingsError as error:
            raise SetupError(f"settings: {error}: it must be JSON") from error
        except ValidationError as error:
            raise SetupError(f"settings: {_explained(error)}") from error


def shown(address: str) -> str:
    """Write an address without what may be secret in it: user, password and query."""
    url = URL(address)
    return str(url.with_user(None).with_query(None).with_fragment(None))


def _explained(error: ValidationError) -> str:
    reasons = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        missing = item["type"] == "missing"
        reason = "it must be set" if missing else item["msg"].removeprefix("Value error, ")
        name = "".join(f"BRIDGE_{part}: ".upper() for part in item["loc"][:1])
        reasons.append(name + reason)
    return "; ".join(reasons)
