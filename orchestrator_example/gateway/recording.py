"""What is told of every request: an id, figures, a line in the log; a crash, to the log only."""

import re
import time
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.telemetry.metrics import SECONDS_BUCKETS
from orchestrator_example.gateway.errors import Crashed, GatewayError

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED: Final = "unmatched"
"""The path of requests that no route takes; theirs would be labels without bound."""
HUNG_UP: Final = 499
"""Status in log and figures when the caller left before any answer, as nginx has it."""
MAX_PATH_CHARS: Final = 200
QUIET_PATHS: Final = frozenset(
    {
        "/health",
        "/health/live",
        "/health/ready",
        "/v1/health_check",
        "/metrics",
        "/v1/jobs/{job_id}",
    }
)
"""Asked again and again, by machines and by who waits: their lines are for debugging."""

Answer = Callable[[Scope, GatewayError], Response]
"""Writes a refusal as the door that was knocked at writes its errors."""

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:~@/+=-]{1,128}")

log = structlog.get_logger(__name__)


class HttpMetrics:
    """Figures of requests; labels are known methods, templates of routes, and statuses."""

    def __init__(self, registry: CollectorRegistry) -> None:
        prefix = "text2image_gateway_"
        self._requests = Counter(
            f"{prefix}http_requests",
            "Requests answered",
            ["method", "path", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            f"{prefix}http_request_seconds",
            "From the head of a request to the last byte of its answer",
            ["method", "path"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._open = Gauge(
            f"{prefix}http_requests_open", "Requests not yet answered", registry=registry
        )

    def began(self) -> None:
        """Count a request that has come."""
        self._open.inc()

    def ended(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request that is over."""
        known = method if method in METHODS else "other"
        self._open.dec()
        self._requests.labels(known, path, str(status)).inc()
        self._seconds.labels(known, path).observe(seconds)


class _Exchange:
    """Passes a request and its answer on, and notes what was sent, and to whom in vain."""

    def __init__(self, receive: Receive, send: Send, request_id: str) -> None:
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self.status: int | None = None
        self.sent_bytes = 0
        self.complete = False

    async def receive(self) -> Message:
        """Receive a message; who hangs up before the answer begins gets none, whatever is sent."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and self.status is None:
            self.status = HUNG_UP
        return message

    async def send(self, message: Message) -> None:
        """Send a message with the headers of every answer."""
        if self.status == HUNG_UP:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self._request_id
            headers["x-content-type-options"] = "nosniff"
            headers.setdefault("cache-control", "no-store")
        elif message["type"] == "http.response.body":
            self.sent_bytes += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        await self._send(message)


class Recorder:
    """The outermost of what stands before the doors; handlers may put `job_id` into the state."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: HttpMetrics,
        answer: Answer,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._answer = answer
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and record how it was answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._clock()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        exchange = _Exchange(receive, send, request_id)
        self._metrics.began()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._run(scope, exchange)
            finally:
                self._record(scope, exchange, self._clock() - began)

    async def _run(self, scope: Scope, exchange: _Exchange) -> None:
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception:  # the edge: of what went wrong here callers learn the request's id only
            log.error("http.crashed", method=scope["method"], path=_shown(scope), exc_info=True)
            # An answer that has begun cannot be taken back: the server cuts it off.
            if exchange.status is None:
                error = Crashed("the gateway failed, which its log explains under this request id")
                await self._answer(scope, error)(scope, exchange.receive, exchange.send)

    def _record(self, scope: Scope, exchange: _Exchange, seconds: float) -> None:
        status, route = exchange.status or HUNG_UP, _route(scope)
        self._metrics.ended(scope["method"], route or UNMATCHED, status, seconds)
        is_quiet = scope["method"] in ("GET", "HEAD") and route in QUIET_PATHS and status < 400
        tell = log.debug if is_quiet else log.info
        tell(
            "http.answered",
            method=scope["method"][:16],
            path=route or _shown(scope),
            status=status,
            seconds=round(seconds, 4),
            bytes=exchange.sent_bytes,
            **({} if exchange.complete else {"complete": False}),
            **_known(scope["state"]),
        )


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def _route(scope: Scope) -> str | None:
    """Find the template of the path, such as /v1/jobs/{job_id}, once a route took the request."""
    return getattr(scope.get("route"), "path", None)


def _shown(scope: Scope) -> str:
    """Write a path that may hold anything: new lines, colours of terminals, other scripts."""
    return str(scope["path"][:MAX_PATH_CHARS].encode("unicode_escape").decode("ascii"))


def _known(state: dict[str, Any]) -> dict[str, str]:
    told = {}
    if (caller := state.get("caller")) is not None:
        told["caller"] = caller.name
    if (job_id := state.get("job_id")) is not None:
        told["job_id"] = job_id
    return told
