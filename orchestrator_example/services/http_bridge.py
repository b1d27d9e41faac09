"""The HTTP bridge: an existing OPEA microservice (LLM, TTS, ASR …) as a service of the broker.

    BRIDGE_SERVICE=llm BRIDGE_SERVICE_TYPE=LLM BRIDGE_URL=http://llm:9000/v1/chat/completions \\
        text2image-node serve --component orchestrator_example.services.http_bridge:HttpBridge

What happens when the HTTP service is not there:

* `load` waits for it, however long that takes: the order in which containers start does not
  matter, and meanwhile the node says `starting`, takes no request, and `/health/ready` says why.
* Gone later, requests that meet this are retried, and `health` says so once three probes in a row
  failed. The node then ends its next job with a new start, which is cheap here and right: it waits
  in `load` again, so that requests stay in the queue instead of using up their attempts.
* Requests that cannot be delivered in a row (NODE_MAX_FAILED_JOBS) end in the same new start, at
  once. Those that the service answers with a failure, or too late, do not: they say nothing about
  this node, and callers may bring them about.
"""

import asyncio
import re
from collections.abc import Awaitable, Mapping
from typing import Any, ClassVar, Final, TypeVar

from pydantic import JsonValue

from contracts.http_bridge import BridgeRequest, BridgeResult
from contracts.message import HEADER_TRACEPARENT, HEADER_TRACESTATE, Message
from contracts.result import JobResult, Status
from node.component import Component, Health, Invocation, ReportLoad
from node.errors import InvalidRequest, JobStopped
from node.settings import Settings
from node.tasks import report_crash
from orchestrator_example.services.http_answer import read
from orchestrator_example.services.http_call import BROKEN, HttpService
from orchestrator_example.services.http_settings import BridgeSettings, shown
from orchestrator_example.services.http_watch import Watch

STOP_POLL_SECONDS: Final = 0.1
STREAM_FIELDS: Final = ("stream", "streaming")
_SENT_ON: Final = {
    HEADER_TRACEPARENT: re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
    HEADER_TRACESTATE: re.compile(r"[\x20-\x7e]{1,512}"),
}

R = TypeVar("R")


class HttpBridge(Component):
    """Posts requests to an HTTP service and answers with what it answers."""

    name: ClassVar[str] = "http-bridge"
    service_type: ClassVar[str] = "UNDEFINED"
    description: ClassVar[str] = "Calls an HTTP service"
    request_model: ClassVar[type[Message]] = BridgeRequest
    result_model: ClassVar[type[JobResult]] = BridgeResult

    def __init__(self, settings: Settings, bridge: BridgeSettings | None = None) -> None:
        self._settings = bridge = bridge or BridgeSettings.read()
        # One class serves any service: what it is called is a matter of the instance.
        self.name = bridge.service  # type: ignore[misc]
        self.service_type = bridge.service_type  # type: ignore[misc]
        self.slots = bridge.concurrency  # type: ignore[misc]
        self.max_request_bytes = bridge.max_request_bytes  # type: ignore[misc]
        self._service = HttpService(bridge)
        self._watch = Watch(shown(bridge.url), self._service.problem, bridge.health_seconds)
        self._watching: asyncio.Task[None] | None = None

    async def load(self, report: ReportLoad) -> None:
        """Wait until the HTTP service answers; see the module for why it does not fail."""
        self._service.open()
        await self._watch.wait_until_there()
        self._watching = asyncio.create_task(self._watch.run(), name="http service watch")
        self._watching.add_done_callback(report_crash)

    def admit(self, request: Message) -> None:
        """Refuse a request without the file that the HTTP service wants."""
        assert isinstance(request, BridgeRequest)
        wanted = self._settings.file_field
        if wanted is not None and wanted not in request.body:
            raise InvalidRequest(f"{wanted}: the file in base64 is missing")

    async def invoke(self, request: Message, invocation: Invocation) -> JobResult:
        """Post the request; a cancel or the deadline drops the connection within a moment."""
        assert isinstance(request, BridgeRequest)
        body, warnings = _unstreamed(request.body)
        self._watch.calls += 1
        try:
            sending = self._service.send(body, _headers(invocation))
            answer = await _unless_stopped(sending, invocation)
        finally:
            self._watch.calls -= 1
        if answer.status < BROKEN:
            self._watch.seen()
        made = await asyncio.to_thread(read, answer)
        return BridgeResult(
            job_id=invocation.job_id,
            status=Status.SUCCEEDED,
            output=made.output,
            warnings=[*warnings, *made.warnings],
        )

    def health(self) -> Health:
        """Healthy while the HTTP service answers; see the module for what follows if not."""
        return Health(healthy=not self._watch.problem, detail=self._watch.problem)

    async def close(self) -> None:
        """Stop watching, and drop every connection."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        await self._service.close()


async def _unless_stopped(work: Awaitable[R], invocation: Invocation) -> R:
    """Await `work` as long as the job may go on. Raises JobStopped."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            if status := invocation.stop_requested():
                raise JobStopped(status)
            await asyncio.wait({task}, timeout=STOP_POLL_SECONDS)
        return task.result()
    finally:
        task.cancel()
        # The connection is closed before anybody hears that the job has stopped.
        await asyncio.gather(task, return_exceptions=True)


def _unstreamed(body: dict[str, JsonValue]) -> tuple[dict[str, Any], list[str]]:
    """Ask for one answer where a stream was asked for: a result is one message."""
    streamed = [name for name in STREAM_FIELDS if body.get(name) is True]
    warnings = [f"{name}: sent as false, because a result is one message" for name in streamed]
    return body | dict.fromkeys(streamed, False), warnings


def _headers(invocation: Invocation) -> Mapping[str, str]:
    """Write the trace context that the job came with, and its id so that a repeat is noticed."""
    given = {name: invocation.context.headers.get(name) for name in _SENT_ON}
    valid = {
        name: value
        for name, value in given.items()
        if isinstance(value, str) and _SENT_ON[name].fullmatch(value)
    }
    return valid | {"Idempotency-Key": invocation.job_id}
