"""Who may call: everybody, or those who send an API key of the keys file."""

import asyncio
import hashlib
import hmac
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from node.errors import SetupError
from orchestrator_example.gateway.errors import Unauthorized
from orchestrator_example.gateway.keys_file import KeyEntry, read_entries

LOOK_SECONDS: Final = 5.0
"""How often the file is looked at for changes."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and how many jobs it may make; None is without limit."""

    name: str
    requests_per_minute: float | None = None
    burst: int | None = None
    concurrent: int | None = None


ANONYMOUS: Final = Caller("anonymous")


class KeyRing:
    """The callers of a keys file by the SHA-256 of their keys; without a file, one caller."""

    def __init__(self, path: Path | None, default: Caller) -> None:
        self._path = path
        self._default = default
        self._callers: dict[bytes, Caller] = {}
        self._seen: tuple[int, int, int] | None = None

    @classmethod
    def read(cls, path: Path | None, default: Caller = ANONYMOUS) -> "KeyRing":
        """Read keys; `default` has the limits of entries without any. Raises SetupError."""
        ring = cls(path, default)
        if path is not None:
            ring._seen = _signature(path)
            ring._callers = _callers(path, default)
        return ring

    @property
    def needs_key(self) -> bool:
        """Whether callers must send a key."""
        return self._path is not None

    def authenticate(self, authorization: str | None, api_key: str | None = None) -> Caller:
        """Find who calls by the headers `Authorization` and `X-API-Key`. Raises Unauthorized.

        Without a file whatever they say is fine: clients send `Bearer None` when they have no key.
        """
        if not self.needs_key:
            return self._default
        tokens = [each for each in (_bearer(authorization), api_key) if each]
        for token in tokens:
            if (caller := self._find(token)) is not None:
                return caller
        raise Unauthorized(_what_to_do(tokens))

    def _find(self, token: str) -> Caller | None:
        given = hashlib.sha256(token.encode()).digest()
        found = None
        # Every hash is compared, and in full: how long it takes tells nothing of the keys.
        for digest, caller in self._callers.items():
            if hmac.compare_digest(given, digest):
                found = caller
        return found

    async def watch(self) -> None:
        """Take up changes of the file, until cancelled."""
        while self._path is not None:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Read the file again if it changed; while it is broken, the keys stay as they were."""
        if self._path is None or (seen := _signature(self._path)) == self._seen:
            return
        self._seen = seen
        try:
            self._callers = _callers(self._path, self._default)
        except SetupError as error:
            log.error("keys.refused", reason=str(error), keys_kept=len(self._callers))
        else:
            log.info("keys.read", file=str(self._path), keys=len(self._callers))


def _callers(path: Path, default: Caller) -> dict[bytes, Caller]:
    return {bytes.fromhex(each.sha256): _caller(each, default) for each in read_entries(path)}


def _caller(entry: KeyEntry, default: Caller) -> Caller:
    given = {each: getattr(entry, each) for each in entry.model_fields_set - {"sha256"}}
    return replace(default, **given)


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _what_to_do(tokens: list[str]) -> str:
    if not tokens:
        return "send an API key in the header 'Authorization: Bearer KEY'"
    if "None" in tokens:
        return "the client sent 'Bearer None', so it was given no API key; set one there"
    return "the API key is not known here; compare it with the one you got, or ask for a new one"


def _signature(path: Path) -> tuple[int, int, int] | None:
    """Tell one state of a file from another; None where it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
