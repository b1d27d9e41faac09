"""Submit, watch, await and cancel jobs: what orchestrators and the command line use.

    async with Client.connect("amqp://localhost") as client:
        job_id = await client.submit(Text2ImageRequest(prompt="An astronaut riding a green horse"))
        result = await client.result(job_id)

Needs no torch. A result that arrives twice is seen once; after a lost connection every pending
request is published again under its job id, which is safe because one id is one job.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Self
from uuid import uuid4

import structlog
from pydantic import ValidationError

from contracts.control import CancelRequest
from contracts.events import JobEvent
from contracts.failure import FailureCode, Problem
from contracts.message import JSON_CONTENT_TYPE, Message
from contracts.result import JobResult, Status
from contracts.text2image import TEXT2IMAGE, GeneratedImage, Text2ImageResult
from contracts.topology import CONTROL
from node.amqp.broker import AmqpBroker
from node.errors import (
    BrokerUnavailable,
    Conflict,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotSucceeded,
    MessageTooLarge,
    MessagingError,
    NodeError,
    PublishRefused,
    Unroutable,
)
from node.ports import Broker, OutgoingMessage, Properties
from node.stores.artifacts import image_bytes
from node.submission import Submission, no_queue, queue_full, request_message
from node.tasks import running
from node.watches import Watches, terminal_event

RESUBMIT_SECONDS: Final = 1.0
KEPT_RESULTS: Final = 256

_FAILURES: Final[Mapping[Status, type[JobNotSucceeded]]] = {
    Status.FAILED: JobFailed,
    Status.CANCELLED: JobCancelled,
    Status.EXPIRED: JobExpired,
}

log = structlog.get_logger(__name__)


class Client:
    """Speaks to one service over one broker; use it as an async context manager."""

    def __init__(
        self,
        broker: Broker,
        service: str = TEXT2IMAGE,
        result_model: type[JobResult] = Text2ImageResult,
    ) -> None:
        self._broker = broker
        self._service = service
        self._result_model = result_model
        self._pending: dict[str, Submission] = {}
        self._settled: OrderedDict[str, JobResult] = OrderedDict()
        self._reply_queue_changed = asyncio.Event()
        self._replies = broker.subscription(on_ready=self._on_reply_queue)
        self._watches = Watches(broker, service)
        self._refusals = 0

    @classmethod
    @asynccontextmanager
    async def connect(cls, *urls: str, **options: Any) -> AsyncIterator[Self]:
        """Connect to RabbitMQ; several URLs are hosts to try in turn."""
        broker = AmqpBroker(urls)
        async with broker.running(), cls(broker, **options).running() as client:
            yield client

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Listen for results and events inside the context."""
        async with running(
            replies=self._replies.run(),
            read_replies=self._read_results(),
            resubmit=self._resubmit(),
            watches=self._watches.run(),
        ):
            yield self

    async def submit(
        self,
        request: Message,
        *,
        job_id: str | None = None,
        deadline_seconds: float | None = None,
        priority: int = 0,
        headers: Mapping[str, Any] | None = None,
        watch: bool = False,
        timeout_seconds: float = 30.0,
    ) -> str:
        """Publish a request and return its job id once the broker confirmed it.

        `deadline_seconds` counts from now. With `watch`, events are collected from the start.
        Raises ModelNotAvailable, Overloaded, Conflict, TopologyMismatch, BrokerUnavailable.
        """
        job_id = job_id or uuid4().hex
        deadline = None if deadline_seconds is None else time.time() + deadline_seconds
        message = request_message(
            self._service, request, job_id, deadline=deadline, priority=priority, headers=headers
        )
        known = self._pending.get(job_id)
        if known is not None:
            if known.message.body != message.body:
                raise Conflict(f"job id {job_id} is pending with another body; use a new id")
            await asyncio.shield(known.confirmed)
            return job_id
        pending = self._pending[job_id] = Submission(message, request)
        try:
            async with asyncio.timeout(timeout_seconds):
                if watch:
                    await self._watches.open(job_id)
                await self._publish_until_confirmed(pending)
        except TimeoutError:
            why = self._broker.problem() or "the broker is slow, or blocks publishers"
            unavailable = BrokerUnavailable(f"no confirm within {timeout_seconds} s: {why}")
            self._give_up(job_id, unavailable)
            raise unavailable from None
        except BaseException as error:
            known_error = error if isinstance(error, NodeError) else BrokerUnavailable(str(error))
            self._give_up(job_id, known_error)
            raise
        return job_id

    async def result(self, job_id: str, timeout_seconds: float | None = None) -> Any:
        """Wait for the result of a job submitted here.

        Raises JobFailed, JobCancelled or JobExpired with the result, TimeoutError, and KeyError
        for a job that was not submitted here.
        """
        result = await self._result(job_id, timeout_seconds)
        if result.status in _FAILURES:
            raise _FAILURES[result.status](result)
        return result

    async def _result(self, job_id: str, timeout_seconds: float | None) -> JobResult:
        pending = self._pending.get(job_id)
        if pending is None:
            return self._settled[job_id]
        try:
            async with asyncio.timeout(timeout_seconds):
                return await asyncio.shield(pending.result)
        except NodeError:
            if job_id not in self._settled:
                raise
            return self._settled[job_id]  # it was submitted, and ended, before

    async def events(self, job_id: str) -> AsyncIterator[JobEvent]:
        """Iterate over the events of a job submitted here; the terminal one is always the last.

        A job that is not waited for any more has none: `result` says why. One iterator a job.
        Raises KeyError for a job that was not submitted here.
        """
        watch = self._watches.get(job_id)
        if watch is None and job_id in self._pending:
            watch = await self._watches.open(job_id)
        if watch is None:
            yield terminal_event(self._settled[job_id])
            return
        async for event in watch:
            yield event

    async def image_bytes(self, image: GeneratedImage, timeout_seconds: float = 20.0) -> bytes:
        """Read the file of an image that came inline or by reference, checked by its SHA-256.

        Raises ArtifactMissing, ArtifactCorrupt, StoreUnavailable.
        """
        return await image_bytes(image, timeout_seconds=timeout_seconds)

    async def cancel(self, job_id: str) -> None:
        """Ask every node to stop the job; its result will be `cancelled` unless it was done.

        Raises Unroutable when no node is there, BrokerUnavailable.
        """
        body = CancelRequest(job_id=job_id).to_json()
        properties = Properties(content_type=JSON_CONTENT_TYPE, type="cancel")
        message = OutgoingMessage(CONTROL, "", body, properties, persistent=False)
        try:
            await self._broker.outbox.publish(message)
        except Unroutable as error:
            raise Unroutable("no node is there to hear the cancel; try again later") from error

    def forget(self, job_id: str) -> None:
        """Wait no more for a job, and let its result go; who waits on gets BrokerUnavailable."""
        self._give_up(job_id, BrokerUnavailable(f"job {job_id} is not waited for any more"))
        self._settled.pop(job_id, None)

    async def _publish_until_confirmed(self, pending: Submission) -> None:
        # A result that came meanwhile proves that the broker has the request.
        while not pending.confirmed.done():
            reply_to = await self._replies.queue_name()
            try:
                await self._broker.outbox.publish(pending.answered_to(reply_to))
            except Unroutable as error:
                if not pending.confirmed.done():
                    raise no_queue(self._service, pending.request) from error
            except PublishRefused as error:
                if not pending.confirmed.done():
                    self._refusals += 1
                    raise queue_full(self._refusals) from error
            except BrokerUnavailable as error:
                log.info("client.submits_again", reason=str(error))
                await asyncio.sleep(RESUBMIT_SECONDS)
            else:
                self._refusals = 0
                # A queue that was lost meanwhile gets no result: then once more, with the new one.
                if reply_to == await self._replies.queue_name():
                    pending.confirm()

    async def _on_reply_queue(self, _: str) -> None:
        self._reply_queue_changed.set()

    async def _resubmit(self) -> None:
        """Publish pending requests again: their results may have gone to a queue that was lost."""
        while True:
            await self._reply_queue_changed.wait()
            self._reply_queue_changed.clear()
            again = [job_id for job_id, pending in self._pending.items() if pending.is_out]
            while again and not self._reply_queue_changed.is_set():
                again = [job_id for job_id in again if not await self._resubmitted(job_id)]
                if again:
                    await asyncio.sleep(RESUBMIT_SECONDS)

    async def _resubmitted(self, job_id: str) -> bool:
        """Publish one pending request again; False when it must be tried once more."""
        pending = self._pending.get(job_id)
        if pending is None:
            return True
        reply_to = await self._replies.queue_name()
        try:
            await self._broker.outbox.publish(pending.answered_to(reply_to))
        except (BrokerUnavailable, PublishRefused) as error:
            log.warning("client.resubmit_failed", job_id=job_id, reason=str(error))
            return False
        except MessageTooLarge as error:
            self._give_up(job_id, error)
        except MessagingError as error:
            log.error("client.resubmit_refused", job_id=job_id, reason=str(error))
            self._give_up(job_id, no_queue(self._service, pending.request))
        return True

    def _give_up(self, job_id: str, error: BaseException) -> None:
        pending = self._pending.pop(job_id, None)
        if pending is not None:
            pending.fail(error)
        self._watches.forget(job_id)

    async def _read_results(self) -> None:
        async for message in self._replies:
            try:
                result = self._result_model.model_validate_json(message.body)
            except ValidationError as error:
                self._take_unreadable(message.properties.correlation_id, error)
                continue
            self._take_result(result, message.properties.correlation_id)

    def _take_unreadable(self, correlation_id: str | None, error: ValidationError) -> None:
        """End the job whose answer cannot be read: to wait for another one would be in vain."""
        first = error.errors(include_url=False, include_input=False)[0]
        why = f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()[:500]
        log.warning("client.result_not_understood", service=self._service, reason=why)
        for job_id, pending in self._pending.items():
            if pending.correlation_id == correlation_id:
                detail = f"{self._service} answered what cannot be read: {why}"
                problem = Problem.of(
                    FailureCode.GENERATION_FAILED, detail, job_id=job_id, retryable=False
                )
                result = self._result_model(job_id=job_id, status=Status.FAILED, error=problem)
                self._take_result(result, correlation_id)
                return

    def _take_result(self, result: JobResult, correlation_id: str | None) -> None:
        pending = self._pending.get(result.job_id)
        if pending is None or correlation_id not in (None, pending.correlation_id):
            log.debug("client.second_copy_dropped", job_id=result.job_id)
            return
        del self._pending[result.job_id]
        pending.confirm()
        self._settled[result.job_id] = result
        while len(self._settled) > KEPT_RESULTS:
            self._settled.popitem(last=False)
        if not pending.result.done():
            pending.result.set_result(result)
        self._watches.result_came(result)
