"""The desk: takes in the jobs of callers, and knows what became of each. READ THIS FIRST.

    door ── submit ──> Job ── Carrier ──> queue of its service
      <── result, events, outlook ── Job <── result, events

One id is one job, however often it is asked for: a call with an id that is known joins its job.
What a caller sees are its own jobs.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any, Final

import structlog
from starlette.requests import Request

from contracts.message import Message
from contracts.result import JobResult
from contracts.service import ServiceContract
from contracts.text2image import GeneratedImage
from node.discovery.directory import ServiceDirectory
from node.errors import BrokerUnavailable, Conflict, StoreUnavailable
from node.ports import Broker
from node.tasks import Crew, running
from orchestrator_example.gateway.admission import check_room, check_there
from orchestrator_example.gateway.carrier import Carrier
from orchestrator_example.gateway.errors import JobUnknown, ServiceUnknown
from orchestrator_example.gateway.feed import Numbered
from orchestrator_example.gateway.job import Job
from orchestrator_example.gateway.keys import Caller
from orchestrator_example.gateway.limits import Limits
from orchestrator_example.gateway.memory import JobMemory
from orchestrator_example.gateway.queues import Queues
from orchestrator_example.gateway.records import JobRecords
from orchestrator_example.gateway.settings import GatewaySettings

GREETING_SECONDS: Final = 1.0
FORGET_SECONDS: Final = 5.0
SWEEP_SECONDS: Final = 300.0

log = structlog.get_logger(__name__)


class JobDesk:
    """Every job of this gateway."""

    def __init__(
        self,
        broker: Broker,
        directory: ServiceDirectory,
        services: Iterable[ServiceContract],
        settings: GatewaySettings,
        limits: Limits,
    ) -> None:
        self.services: Mapping[str, ServiceContract] = {each.name: each for each in services}
        self.directory = directory
        self.settings = settings
        self._limits = limits
        self._queues = Queues(broker, directory)
        url = settings.job_store
        self._records = JobRecords(url, self.services) if url else None
        self._carrier = Carrier(broker, self.services, self._queues, self._records)
        self._memory = JobMemory(settings.job_seconds, settings.job_bytes)
        self._crew = Crew()
        self._opened_at = float("-inf")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Take jobs inside the context; those on their way when it ends are left to their nodes."""
        async with (
            self._carrier.listening(),
            running(queues=self._queues.run(), forget=self._forget_old(), sweep=self._sweep()),
            self._crew,
        ):
            self._opened_at = asyncio.get_running_loop().time()
            try:
                yield
            finally:
                self.give_up()

    async def submit(
        self,
        service: str,
        request: Message,
        caller: Caller,
        *,
        job_id: str | None = None,
        deadline_seconds: float | None = None,
        priority: int = 0,
        keeps_on: bool = False,
    ) -> Job:
        """Have a request done; an id that is known joins its job. Returns once the broker has it.

        Raises ServiceUnknown, Busy, TooManyRequests, Conflict, InvalidRequest, ModelNotAvailable,
        Overloaded, BrokerUnavailable, TopologyMismatch, MessageTooLarge, StoreUnavailable.
        """
        if not keeps_on:
            await self._greeted_by(service)
        job = await self._known(job_id) if job_id else None
        if job is None:
            deadline = None if deadline_seconds is None else time.time() + deadline_seconds
            job = Job(
                service,
                request,
                caller.name,
                job_id=job_id,
                deadline=deadline,
                priority=priority,
                keeps_on=keeps_on,
            )
            self._check(job)
            self._begin(job, self._limits.enter(caller))
        elif (job.service, job.request, job.owner) != (service, request, caller.name):
            raise Conflict("this idempotency key was used for another request; use a new one")
        elif keeps_on and not job.keeps_on:
            job.keeps_on = True
            await self._carrier.record(job)
        await asyncio.shield(job.taken)
        return job

    async def result(self, job: Job) -> JobResult:
        """Wait for the end of a job, however it ended."""
        await job.ended.wait()
        if job.refusal is not None:
            raise job.refusal
        assert job.result is not None
        return job.result

    def events(self, job: Job, after: int = 0) -> AsyncIterator[Numbered]:
        """Iterate over the events of a job that come after a number, the terminal one last."""
        return job.feed.follow(after)

    async def find(self, job_id: str, caller: Caller | None) -> Job:
        """Look up a job of a caller, or of anybody. Raises JobUnknown, StoreUnavailable."""
        job = await self._known(job_id)
        if job is None or (caller is not None and job.owner != caller.name):
            raise JobUnknown(
                f"no job {job_id!r} of yours is known; jobs are forgotten "
                f"{self.settings.job_seconds:g} seconds after their end"
            )
        return job

    def jobs(self, caller: Caller) -> list[Job]:
        """List the jobs of a caller, the latest first."""
        own = [job for job in self._memory if job.owner == caller.name]
        return sorted(own, key=lambda job: -job.submitted_at)

    def all_jobs(self) -> Iterator[Job]:
        """List every job that is known."""
        return iter(self._memory)

    def stop(self) -> None:
        """End those who only watch; callers who wait for a result still get it."""
        for job in self._memory:
            job.feed.close()

    def give_up(self) -> None:
        """Wait for no job any more: their nodes do them all the same, whoever waits gets Busy."""
        if left := self._memory.num_on_their_way:
            log.warning("jobs.left", jobs=left, recorded=self._records is not None)
        self._crew.abandon()

    def cancel(self, job: Job) -> None:
        """Have a job stopped; it ends as `cancelled`, unless it has ended before that."""
        if not job.cancel_requested and not job.ended.is_set():
            job.cancel_requested = True
            self._crew.spawn(self._carrier.stop(job))

    def outlook(self, job: Job) -> tuple[int | None, float | None]:
        """Estimate how many jobs are ahead of one, and the seconds until it is done."""
        return self._queues.outlook(job)

    @asynccontextmanager
    async def attended(self, request: Request, job: Job) -> AsyncIterator[None]:
        """Wait for a job inside the context; a caller who hangs up meanwhile does not want it.

        Unless it can ask for the job again: only with a key may others wait for it, too.
        """
        watch = asyncio.create_task(self._until_gone(request, job))
        try:
            yield
        finally:
            watch.cancel()
            self._abandon(job)

    async def files(self, images: Iterable[GeneratedImage]) -> list[str]:
        """Read the files of images, in base64.

        Raises ArtifactMissing, ArtifactCorrupt, StoreUnavailable for those that are in a store.
        """
        return await self._carrier.files(images)

    async def _greeted_by(self, service: str) -> None:
        """Wait for a service to say that it is there, in the first moment after the start."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._opened_at + GREETING_SECONDS):
                while service not in (each.name for each in self.directory.services()):
                    await self.directory.wait_for_change()

    async def _known(self, job_id: str) -> Job | None:
        """Look up a job, in what gateways wrote down as well. Raises StoreUnavailable."""
        if job_id not in self._memory and self._records is not None:
            recorded = await self._records.find(job_id)
            # Another call may have found it meanwhile.
            if recorded is not None and job_id not in self._memory:
                self._take_over(recorded)
        return self._memory.get(job_id)

    def _take_over(self, job: Job) -> None:
        """Go on with a job of a gateway that is gone: asked for once more, it is the same job."""
        log.info("job.taken_over", job_id=job.id, service=job.service, status=job.state.value)
        if job.ended.is_set():
            self._memory.keep(job)
            return
        self._begin(job, nullcontext())
        if job.cancel_requested:
            self._crew.spawn(self._carrier.stop(job))

    def _begin(self, job: Job, lease: AbstractContextManager[Any]) -> None:
        self._memory.begin(job)
        self._crew.spawn(self._see_through(job, lease))

    async def _see_through(self, job: Job, lease: AbstractContextManager[Any]) -> None:
        try:
            await self._carrier.carry(job, lease)
        finally:
            if job.result is None:
                # It was refused: the caller may try again under the same id.
                self._memory.drop(job)
                event = "job.refused" if job.was_refused else "job.left"
                log.info(event, reason=str(job.refusal), **_facts(job))
                if isinstance(job.refusal, BrokerUnavailable) and not job.has_key:
                    # With a key it may be asked for again, as the same job.
                    self._crew.spawn(self._carrier.withdraw(job))
            else:
                self._memory.keep(job)
                log.info("job.ended", status=job.state.value, **_facts(job), **_code(job))

    def _check(self, job: Job) -> None:
        """Refuse what would wait in vain. Raises ServiceUnknown, Busy, ModelNotAvailable."""
        if job.service not in self.services:
            known = ", ".join(sorted(self.services))
            raise ServiceUnknown(f"no service {job.service!r} is known here; there are: {known}")
        check_room(job, self._memory, self.settings)
        if not job.keeps_on and not self.directory.cut_off():
            check_there(self.services[job.service], job.request, self.directory.services())

    async def _until_gone(self, request: Request, job: Job) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self._abandon(job)

    def _abandon(self, job: Job) -> None:
        """Cancel a job that nobody waits for any more."""
        is_over = job.ended.is_set() or job.cancel_requested
        is_wanted = job.keeps_on or job.has_key or not self.settings.cancel_on_disconnect
        if not is_over and not is_wanted:
            log.info("job.abandoned", **_facts(job))
            self.cancel(job)

    async def _forget_old(self) -> None:
        while True:
            await asyncio.sleep(FORGET_SECONDS)
            self._memory.forget(time.time())

    async def _sweep(self) -> None:
        """Delete old records, now and then."""
        while self._records is not None:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self._records.sweep(self.settings.job_seconds)
            except StoreUnavailable as error:
                log.warning("store.not_swept", reason=str(error))


def _facts(job: Job) -> dict[str, Any]:
    """Tell of a job in the log; never what was asked for."""
    seconds = round(time.time() - job.submitted_at, 3)
    return {"job_id": job.id, "service": job.service, "caller": job.owner, "seconds": seconds}


def _code(job: Job) -> dict[str, str]:
    error = job.result.error if job.result else None
    return {"code": error.code.value} if error else {}


def idempotent_id(caller: Caller, key: str) -> str:
    """Make the job id of an idempotency key: the same on every gateway."""
    return hashlib.sha256(f"{caller.name}\0{key}".encode()).hexdigest()[:32]
