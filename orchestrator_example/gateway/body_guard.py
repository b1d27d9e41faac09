"""How large and slow a request may be.

Plain ASGI: `BaseHTTPMiddleware` of Starlette would hide from doors that their caller hung up.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator_example.gateway.errors import BodyTooLarge, BodyTooSlow, Busy, GatewayError
from orchestrator_example.gateway.recording import Answer

LINGER_SECONDS: Final = 10.0
"""How long the rest of a refused body is read: many clients look for an answer only after it."""
BODIES_AT_ONCE: Final = 16
"""So many bodies of the largest size may be arriving; what they hold together is bounded by it."""
BUSY_SECONDS: Final = 2.0
MAX_LENGTH_DIGITS: Final = 18
MAX_VALUES: Final = 100_000
"""Values in one body of JSON. Ten million empty lists fit in 32 MiB: reading them would take a
gigabyte, and keep everybody waiting for seconds."""


class BodyGuard:
    """Reads bodies before doors do, within bounds of size, time and memory."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, seconds: float, answer: Answer) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._answer = answer
        self._arriving_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its whole body, or answer 408, 413 or 503."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        incoming = Incoming(receive)
        try:
            body = await self._read(Headers(scope=scope), incoming)
        except GatewayError as error:
            await refuse(self._answer(scope, error), scope, incoming, send)
        except ClientDisconnect:
            return
        else:
            await self._app(scope, _with_body(body, receive), send)

    async def _read(self, headers: Mapping[str, str], incoming: "Incoming") -> bytes:
        # Before the first byte is asked for: `Expect: 100-continue` then saves sending it.
        if _declared_bytes(headers) > self._max_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                while not incoming.ended:
                    chunk = await incoming.chunk()
                    self._arriving_bytes += len(chunk)
                    body += chunk
                    self._check(body)
        except TimeoutError:
            raise BodyTooSlow(
                f"after {self._seconds:g} seconds {len(body)} bytes of the request had arrived, "
                "and not its end; send it faster, or send less"
            ) from None
        finally:
            self._arriving_bytes -= len(body)
        if _num_values(headers, body) > MAX_VALUES:
            raise BodyTooLarge(f"the request has more than {MAX_VALUES} values; send fewer")
        return bytes(body)

    def _check(self, body: bytearray) -> None:
        if len(body) > self._max_bytes:
            raise self._too_large()
        if self._arriving_bytes > BODIES_AT_ONCE * self._max_bytes:
            raise Busy("too many large requests arrive at once; send this again", BUSY_SECONDS)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"the request has more than {self._max_bytes} bytes; send smaller or fewer images"
        )


class Incoming:
    """The body of a request, chunk by chunk."""

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.ended = False

    async def chunk(self) -> bytes:
        """Wait for the next chunk. Raises ClientDisconnect."""
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.ended = not message.get("more_body", False)
        return bytes(message.get("body", b""))


async def refuse(response: Response, scope: Scope, incoming: Incoming, send: Send) -> None:
    """Answer before the body has come, and close the connection.

    Closed at once it would be reset, and the answer lost with it: what still comes is read first.
    """
    response.headers["connection"] = "close"

    async def lingering(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            await send({**message, "more_body": True})
            await _drain(incoming)
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await send(message)

    await response(scope, incoming.receive, lingering)


async def _drain(incoming: Incoming) -> None:
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while not incoming.ended:
                await incoming.chunk()
    except (TimeoutError, ClientDisconnect):
        return


def _declared_bytes(headers: Mapping[str, str]) -> int:
    """Read Content-Length; what is no number says nothing, and the bytes are counted anyway."""
    declared = headers.get("content-length", "")
    if not (declared.isascii() and declared.isdigit()):
        return 0
    # A number that is too long for anything would also be too long for int().
    return int(declared) if len(declared) <= MAX_LENGTH_DIGITS else 10**MAX_LENGTH_DIGITS


def _num_values(headers: Mapping[str, str], body: bytearray) -> int:
    """Count what could begin a value of JSON, which costs far less than reading it."""
    if len(body) <= MAX_VALUES or headers.get("content-type", "").startswith("multipart/"):
        return 0  # files of a form may hold any bytes
    return sum(body.count(each) for each in b"[{,:")


def _with_body(body: bytes, receive: Receive) -> Receive:
    """Hand out a body that was read; after it, what the server tells (that the caller hung up)."""
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return unread.pop() if unread else await receive()

    return replay
