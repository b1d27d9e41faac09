"""The file of API keys, which holds only their hashes.

    keys:
      - name: studio
        sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
        requests_per_minute: 60    # unset: GATEWAY_REQUESTS_PER_MINUTE; null: no limit
        burst: 10                  # unset: as many as a minute allows
        concurrent: 4              # unset: GATEWAY_CONCURRENT; null: no limit

A key is 256 random bits. Nobody can guess through so many, whatever a try costs, so a plain SHA-256
protects it; slow hashes are for what people choose.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from node.errors import SetupError
from orchestrator_example.graph import GraphError
from orchestrator_example.yaml_source import YamlSource

PREFIX: Final = "t2i_"
"""Lets people, and scanners of repositories, see what a leaked string is."""
MAKE_ONE: Final = "`python -m orchestrator_example key NAME` makes a key and its entry"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("it must be 1..64 letters, digits or ._- beginning with a letter or digit")
    return value


def _digest(value: str) -> str:
    if not _SHA256.fullmatch(value):
        # Not quoted: who writes the key itself here must not find it in a log.
        raise ValueError(f"it must be a SHA-256 in 64 hexadecimal digits; {MAKE_ONE}")
    return value.lower()


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class KeyEntry(_Part):
    """One key: whose it is, its hash, and what is said of limits."""

    name: Annotated[str, AfterValidator(_name)]
    sha256: Annotated[str, AfterValidator(_digest)]
    requests_per_minute: float | None = Field(default=None, gt=0)
    burst: int | None = Field(default=None, ge=1)
    concurrent: int | None = Field(default=None, ge=1)


class _File(_Part):
    keys: list[KeyEntry] = Field(min_length=1)


def read_entries(path: Path) -> list[KeyEntry]:
    """Read a file. Raises SetupError with the file, the line, the place in it and the reason."""
    try:
        source = YamlSource.read(path)
        entries = _File.model_validate(source.data).keys
        for number, field, value in _repeated(entries):
            raise GraphError(source.complaint(["keys", number, field], f"{value!r} is there twice"))
    except GraphError as error:
        raise SetupError(str(error)) from error
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        reasons = [source.complaint(each["loc"], _reason(each["msg"])) for each in found]
        raise SetupError("; ".join(reasons)) from None
    return entries


def new_key(name: str) -> tuple[str, str]:
    """Make a key: the token, which is kept nowhere, and its entry. Raises SetupError."""
    try:
        _name(name)
    except ValueError as error:
        raise SetupError(f"{name!r}: {error}") from error
    token = PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(token.encode()).hexdigest()
    # In quotes, since YAML reads a name such as 1.5 as a number.
    return token, f"  - name: {json.dumps(name)}\n    sha256: {json.dumps(digest)}\n"


def _repeated(entries: list[KeyEntry]) -> Iterator[tuple[int, str, str]]:
    seen: set[tuple[str, str]] = set()
    for number, entry in enumerate(entries):
        for field, value in (("name", entry.name), ("sha256", entry.sha256)):
            if (field, value) in seen:
                yield number, field, value
            seen.add((field, value))


def _reason(message: str) -> str:
    if message == "Extra inputs are not permitted":
        return f"no such field; a key of the list `keys` has {', '.join(KeyEntry.model_fields)}"
    return message.removeprefix("Value error, ")
