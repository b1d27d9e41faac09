"""What stands before the doors, and in which order."""

from collections.abc import Collection
from typing import Final

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator_example.gateway.body_guard import BodyGuard, Incoming, refuse
from orchestrator_example.gateway.errors import BadRequest, Unauthorized
from orchestrator_example.gateway.keys import KeyRing
from orchestrator_example.gateway.recording import Answer, HttpMetrics, Recorder
from orchestrator_example.gateway.settings import GatewaySettings

CORS_METHODS: Final = ("GET", "POST", "DELETE")
CORS_REQUEST_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "X-API-Key",
    "X-Request-Id",
)
CORS_ANSWER_HEADERS: Final = ("Location", "Retry-After", "X-Request-Id", "X-Warning")


def add_guards(
    app: Starlette,
    settings: GatewaySettings,
    *,
    keys: KeyRing,
    metrics: HttpMetrics,
    answer: Answer,
    open_paths: Collection[str],
) -> None:
    """Put every guard before an app; the last one that is added here sees a request first.

    Requests are recorded, refusals and crashes too. Then the name that was asked for. Then CORS: a
    browser must be able to read a refusal, and asks for leave without a key. Then keys, so that
    strangers' bodies are not read.
    """
    app.add_middleware(
        BodyGuard,
        max_bytes=settings.max_body_bytes,
        seconds=settings.body_seconds,
        answer=answer,
    )
    app.add_middleware(KeyGuard, keys=keys, open_paths=open_paths, answer=answer)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=CORS_METHODS,
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_ANSWER_HEADERS,
        )
    if settings.hosts:
        app.add_middleware(HostGuard, hosts=settings.hosts, answer=answer)
    app.add_middleware(Recorder, metrics=metrics, answer=answer)


class HostGuard:
    """Answers under its own names only: a page whose name was made to point here is refused."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], answer: Answer) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 400."""
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "").lower()
            if not {host, _without_port(host)} & self._hosts:
                why = f"no such host here: {host[:200]!r}; add it to GATEWAY_HOSTS if it is right"
                await refuse(self._answer(scope, BadRequest(why)), scope, Incoming(receive), send)
                return
        await self._app(scope, receive, send)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


class KeyGuard:
    """Asks for an API key before anything of the body is read.

    Who calls is in the request's state as `caller`; on open paths that may be nobody.
    """

    def __init__(
        self, app: ASGIApp, *, keys: KeyRing, open_paths: Collection[str], answer: Answer
    ) -> None:
        self._app = app
        self._keys = keys
        self._open_paths = open_paths
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            try:
                scope.setdefault("state", {})["caller"] = self._keys.authenticate(
                    headers.get("authorization"), headers.get("x-api-key")
                )
            except Unauthorized as error:
                if not is_open(scope["path"], self._open_paths):
                    await refuse(self._answer(scope, error), scope, Incoming(receive), send)
                    return
        await self._app(scope, receive, send)


def is_open(path: str, open_paths: Collection[str]) -> bool:
    """Say whether a path needs no key; one that ends in `/*` opens everything below it."""
    return path in open_paths or any(
        path.startswith(each.removesuffix("*")) for each in open_paths if each.endswith("/*")
    )
