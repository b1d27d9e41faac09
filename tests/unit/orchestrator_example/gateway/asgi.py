"""One request to an ASGI app, message by message."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator_example.gateway.errors import GatewayError
from orchestrator_example.gateway.keys import Caller


def chunks(*bodies: bytes, more: bool = False) -> list[Message]:
    """Write the messages of a body; `more` leaves its end open."""
    last = len(bodies) - 1
    return [
        {"type": "http.request", "body": body, "more_body": more or index < last}
        for index, body in enumerate(bodies)
    ]


def answer(_: Scope, error: GatewayError) -> Response:
    """Write a refusal shortly."""
    return JSONResponse({"code": error.code, "detail": str(error)}, error.status)


class Exchange:
    """Asks an app, and keeps what it answers; after its messages the caller waits, or hangs up."""

    def __init__(
        self,
        messages: Iterable[Message] = (),
        *,
        path: str = "/v1/jobs",
        method: str = "POST",
        headers: dict[str, str] | None = None,
        hangs_up: bool = False,
    ) -> None:
        self._messages = list(messages)
        self._hangs_up = hangs_up
        self.asked = 0
        self.sent: list[Message] = []
        raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": raw,
            "client": ("127.0.0.1", 5),
            "server": ("127.0.0.1", 80),
        }

    async def receive(self) -> Message:
        self.asked += 1
        if self._messages:
            return self._messages.pop(0)
        if not self._hangs_up:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def run(self, app: ASGIApp) -> "Exchange":
        """Have the request answered, with a bound."""
        await asyncio.wait_for(app(self.scope, self.receive, self.send), 20.0)
        return self

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(each.get("body", b"") for each in self.sent[1:])

    @property
    def is_complete(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is not True


def seen_by_guards(caller: Caller, app: ASGIApp) -> ASGIApp:
    """Put before an app what says who calls, as the guard of API keys does."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["caller"] = caller
        await app(scope, receive, send)

    return guarded


@asynccontextmanager
async def called_by(caller: Caller, app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """Speak to an app whose guard of API keys knows the caller."""
    transport = httpx.ASGITransport(seen_by_guards(caller, app))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client
