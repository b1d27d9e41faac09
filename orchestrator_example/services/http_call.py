"""Calls to one HTTP service; the only module of the bridge that does I/O over HTTP.

Redirections are not followed: a service must not send what callers wrote, and the operator's
credentials, to another host. Every call has a connection of its own, because servers close those
that idle, and a POST that meets that moment cannot be repeated safely.
"""

import asyncio
import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import pydantic_core
from multidict import CIMultiDict
from yarl import URL

from node import __version__
from node.errors import InvalidRequest, ResultTooLarge
from orchestrator_example.services.http_answer import Answer
from orchestrator_example.services.http_failure import FAILURES, failure, reason
from orchestrator_example.services.http_settings import BridgeSettings, shown

ERROR_BYTES: Final = 65_536
"""How much of an answer that reports an error is read."""
PROBE_SECONDS: Final = 5.0
BROKEN: Final = 500
"""From this status on, an answer says that the service does not work."""
_HEADERS: Final = {
    "User-Agent": f"text2image-node/{__version__}",
    # A small answer that unpacks to gigabytes is not asked for.
    "Accept-Encoding": "identity",
}


class HttpService:
    """The service that the settings name."""

    def __init__(self, settings: BridgeSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Take what calls need; on the event loop."""
        self._session = aiohttp.ClientSession(
            # Slots bound the calls; the connector must not make them wait unseen.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Drop every connection."""
        if self._session is not None:
            await self._session.close()

    async def send(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
        """Send a request and read the whole answer. Raises JobError."""
        assert self._session is not None
        settings = self._settings
        timeout = aiohttp.ClientTimeout(
            total=settings.timeout_seconds, sock_connect=settings.connect_seconds
        )
        data = await asyncio.to_thread(_encoded, body, settings.file_field)
        try:
            async with self._session.request(
                settings.method,
                settings.url,
                data=data,
                headers=self._headers(headers),
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                return await _whole(response, settings.max_response_bytes)
        except FAILURES as error:
            raise failure(error, settings) from error

    def _headers(self, of_job: Mapping[str, str]) -> CIMultiDict[str]:
        """Write all headers; the operator's may be secret, and no health page needs them."""
        settings = self._settings
        headers = CIMultiDict({} if settings.file_field else {"Content-Type": "application/json"})
        headers.update({name: value.get_secret_value() for name, value in settings.headers.items()})
        headers.update(of_job)
        return headers

    async def problem(self) -> str:
        """Say why the service is not there; empty when it is.

        Any answer below 500 says that it is: many services have no page for their health.
        """
        assert self._session is not None
        address = self._settings.health_address
        timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS)
        try:
            async with self._session.get(
                address, allow_redirects=False, timeout=timeout
            ) as response:
                status = response.status
        except FAILURES as error:
            return f"{shown(address)} does not answer: {reason(error)}"
        return f"{shown(address)} answers {status}" if status >= BROKEN else ""


async def _whole(response: aiohttp.ClientResponse, max_bytes: int) -> Answer:
    """Read an answer within bounds; of one that reports an error, its beginning will do."""
    succeeded = response.status < 300
    body = await _bounded(response, max_bytes if succeeded else ERROR_BYTES, cut=not succeeded)
    return Answer(
        status=response.status,
        media_type=response.content_type,
        charset=response.charset,
        body=body,
        location=_location(response),
    )


def _location(response: aiohttp.ClientResponse) -> str | None:
    """Say where a redirection points."""
    location = response.headers.get("Location")
    if location is None:
        return None
    try:
        return shown(str(response.url.join(URL(location))))
    except ValueError:
        return "an address that is none"


async def _bounded(response: aiohttp.ClientResponse, max_bytes: int, *, cut: bool) -> bytes:
    body = bytearray()
    too_large = (response.content_length or 0) > max_bytes
    while not too_large and (chunk := await response.content.readany()):
        body += chunk
        too_large = len(body) > max_bytes
    if too_large and not cut:
        raise ResultTooLarge(
            f"the service answers more than {max_bytes} bytes (BRIDGE_MAX_RESPONSE_BYTES); ask for "
            "less, or for a shorter text"
        )
    return bytes(body[:max_bytes])


def _encoded(body: Mapping[str, Any], file_field: str | None) -> bytes | aiohttp.FormData:
    """Write a request as JSON, or as a form with one file. Raises InvalidRequest."""
    if file_field is None:
        return pydantic_core.to_json(dict(body))
    form = aiohttp.FormData()
    for name, value in body.items():
        if name == file_field:
            form.add_field(name, _file(name, value), filename=name)
        elif value is not None:
            text = value if isinstance(value, str) else pydantic_core.to_json(value).decode()
            form.add_field(name, text)
    return form


def _file(name: str, value: Any) -> bytes:
    try:
        return base64.b64decode(value.partition("base64,")[2] or value, validate=True)
    except (AttributeError, ValueError, binascii.Error) as error:
        raise InvalidRequest(f"{name}: it is not a file in base64") from error
