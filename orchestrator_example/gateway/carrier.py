"""The carrier: takes a job to its service, listens to what it tells, and brings the result back."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

import structlog

from contracts.failure import FailureCode, Problem
from contracts.result import JobResult, Status
from contracts.service import ServiceContract
from contracts.text2image import GeneratedImage
from node.client import Client
from node.errors import JobNotSucceeded, MessagingError, NodeError, StoreUnavailable
from node.ports import Broker
from orchestrator_example.gateway.errors import Busy, Crashed
from orchestrator_example.gateway.job import Job
from orchestrator_example.gateway.queues import Queues
from orchestrator_example.gateway.records import JobRecords

SUBMIT_SECONDS: Final = 15.0
LATE_SECONDS: Final = 10.0
"""A job so long past its deadline is expired, also if nobody says so."""
CANCEL_AGAIN_SECONDS: Final = 1.0
AGAIN_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class Carrier:
    """Carries any number of jobs at once, each to its end."""

    def __init__(
        self,
        broker: Broker,
        services: Mapping[str, ServiceContract],
        queues: Queues,
        records: JobRecords | None,
    ) -> None:
        self._services = services
        self._clients = {
            each.name: Client(broker, each.name, each.result) for each in services.values()
        }
        self._queues = queues
        self._records = records

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen to the results and events of every service inside the context."""
        async with AsyncExitStack() as stack:
            for client in self._clients.values():
                await stack.enter_async_context(client.running())
            yield

    async def carry(self, job: Job, lease: AbstractContextManager[Any]) -> None:
        """See a job through; afterwards it has its result, or the reason why it was refused."""
        client = self._clients[job.service]
        with lease:
            try:
                await self._submit(client, job)
                job.take()
                result = await self._outcome(client, job)
            except NodeError as error:
                job.refuse(error)
                await self._unrecord(job)
                return
            except asyncio.CancelledError:
                job.refuse(Busy("this gateway stops; ask again", AGAIN_SECONDS))
                raise
            except BaseException:
                job.refuse(Crashed("the gateway failed, which its log explains"))
                raise
            finally:
                client.forget(job.id)
                self._queues.leave(job)
            job.end(result)
        await self._record_change(job)

    async def stop(self, job: Job) -> None:
        """Ask for the end of a job until it came: nodes that start later must hear it, too."""
        await self._record_change(job)
        told = False
        while not job.ended.is_set():
            try:
                await self._clients[job.service].cancel(job.id)
            except MessagingError as error:
                if not told:
                    log.info("job.cancel_not_heard", job_id=job.id, reason=str(error))
                told = True
            with suppress(TimeoutError):
                async with asyncio.timeout(CANCEL_AGAIN_SECONDS):
                    await job.ended.wait()

    async def withdraw(self, job: Job) -> None:
        """Cancel what was refused: the broker that did not answer may have it all the same."""
        try:
            await self._clients[job.service].cancel(job.id)
        except MessagingError as error:
            log.info("job.cancel_not_heard", job_id=job.id, reason=str(error))

    async def files(self, images: Iterable[GeneratedImage]) -> list[str]:
        """Read the files of images, in base64.

        Raises ArtifactMissing, ArtifactCorrupt, StoreUnavailable for those that are in a store.
        """
        return [image.b64_json or await self._fetched(image) for image in images]

    async def record(self, job: Job) -> None:
        """Write down a job that outlives the gateway. Raises StoreUnavailable."""
        if self._records is not None and job.keeps_on:
            await self._records.keep(job)

    async def _submit(self, client: Client, job: Job) -> None:
        await self.record(job)
        await self._queues.join(job)
        await client.submit(
            job.request,
            job_id=job.id,
            deadline_seconds=_seconds_left(job),
            priority=job.priority,
            watch=True,
            timeout_seconds=SUBMIT_SECONDS,
        )

    async def _outcome(self, client: Client, job: Job) -> JobResult:
        left = _seconds_left(job)
        telling = asyncio.create_task(self._tell(client, job))
        try:
            async with asyncio.timeout(None if left is None else max(left, 0.0) + LATE_SECONDS):
                result = await _result(client, job)
                await telling
                return result
        except TimeoutError:
            why = "no node answered before the deadline"
            return self._made_up(job, Status.EXPIRED, FailureCode.DEADLINE_EXCEEDED, why)
        except NodeError as error:
            return self._made_up(job, Status.FAILED, FailureCode.INTERNAL, str(error))
        finally:
            telling.cancel()

    async def _tell(self, client: Client, job: Job) -> None:
        async for event in client.events(job.id):
            job.tell(event)
            self._queues.note(job)

    def _made_up(self, job: Job, status: Status, code: FailureCode, why: str) -> JobResult:
        """Make a result where none came."""
        problem = Problem.of(code, why, job_id=job.id, retryable=True)
        return self._services[job.service].result(job_id=job.id, status=status, error=problem)

    async def _record_change(self, job: Job) -> None:
        try:
            await self.record(job)
        except StoreUnavailable as error:
            log.warning("job.not_recorded", job_id=job.id, reason=str(error))

    async def _unrecord(self, job: Job) -> None:
        """Forget a job that was never taken: who asks with its id again may ask for another."""
        try:
            if self._records is not None and job.keeps_on and job.was_refused:
                await self._records.drop(job.id)
        except StoreUnavailable as error:
            log.warning("job.not_unrecorded", job_id=job.id, reason=str(error))

    async def _fetched(self, image: GeneratedImage) -> str:
        client = next(iter(self._clients.values()))
        data = await client.image_bytes(image)
        return await asyncio.to_thread(lambda: base64.b64encode(data).decode())


async def _result(client: Client, job: Job) -> JobResult:
    try:
        result: JobResult = await client.result(job.id)
    except JobNotSucceeded as error:
        return error.result
    return result


def _seconds_left(job: Job) -> float | None:
    return None if job.deadline is None else job.deadline - time.time()
