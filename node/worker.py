"""The life of a request, top to bottom.

    _receive   a delivery is decoded, and claimed as a new job or as one more copy of a known one
    _admit     limits, deadline and earlier cancels are checked; the job waits
    _work      the next job runs in the component
    _finish    its outcome is recorded, and every copy of the request is answered with it

Everything runs on one event loop, and only this module changes the ledger. A delivery is acked
after the broker confirmed the message that answers it (`egress.settlement`), never before.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from contracts.result import NodeInfo, Status
from node import __version__
from node.component import Component
from node.egress.artifacts import fit
from node.egress.events import JobEvents
from node.egress.settlement import Settlement
from node.errors import (
    Conflict,
    Disposition,
    InternalError,
    JobError,
    JobStopped,
)
from node.ingress.admission import refusal
from node.ingress.decoding import Arrival, Undecodable, decode
from node.invocation import RunningJob
from node.job import Envelope, Job, Outcome
from node.ports import ArtifactStore, Clock, Delivery, Inbox, Outbox
from node.scheduling.attempts import without_further_attempt
from node.scheduling.ledger import Asker, Claim, Ledger
from node.settings import Settings
from node.telemetry.metrics import Metrics

LAST_ANSWERS_SECONDS: Final = 5.0
"""How long answers may take to get out after running jobs were told to stop."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Live:
    """What belongs to a job from its admission to its end."""

    events: JobEvents
    expiry: asyncio.TimerHandle | None = None


class Worker:
    """Serves one component from one inbox."""

    def __init__(
        self,
        component: Component,
        inbox: Inbox,
        outbox: Outbox,
        *,
        settings: Settings,
        instance_id: str,
        clock: Clock,
        metrics: Metrics,
        store: ArtifactStore | None = None,
    ) -> None:
        self._component = component
        self._inbox = inbox
        self._outbox = outbox
        self._settlement = Settlement(component.name, inbox, outbox, clock)
        self._settings = settings
        self._instance_id = instance_id
        self._clock = clock
        self._metrics = metrics
        self._store = store
        self._ledger = Ledger(settings.recent_results, settings.recent_results_bytes)
        self._running: dict[str, RunningJob] = {}
        self._live: dict[str, _Live] = {}
        self._changed = asyncio.Event()
        self._draining = False
        self._tasks = asyncio.TaskGroup()
        self._started: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Serve until drained, and everything that was taken is settled or given back."""
        late: list[Delivery] = []
        async with self._tasks:
            for _ in range(self._settings.slots):
                self._start(self._work())
            async for delivery in self._inbox:
                if self._draining:
                    late.append(delivery)
                else:
                    self._receive(delivery)
            # Not before consuming has stopped: the broker would hand them to this node again,
            # and count each time against their delivery limit.
            for delivery in late:
                self._spawn(self._inbox.requeue(delivery))

    def _receive(self, delivery: Delivery) -> None:
        self._metrics.received(delivery.redelivered)
        arrival = Arrival(delivery.message, self._clock.monotonic(), self._clock.time())
        decoded = decode(arrival, self._component.request_model, self._settings.max_request_bytes)
        if isinstance(decoded, Undecodable):
            self._refuse(delivery, decoded.envelope, decoded.error)
        else:
            self._claim(Asker(decoded, delivery))

    def _claim(self, asker: Asker) -> None:
        job = asker.job
        match self._ledger.claim(asker):
            case Claim.NEW:
                self._admit(job, asker.delivery)
            case Claim.JOINED:
                log.info("request.joined", job_id=job.id, redelivered=asker.delivery.redelivered)
            case Claim.FINISHED:
                log.info("request.replayed", job_id=job.id)
                outcome = self._ledger.outcome(job.id)
                self._spawn(self._settlement.answer(asker.delivery, job.envelope, outcome))
            case Claim.CONFLICT:
                detail = f"job id {job.id} belongs to a request with another body; use a new id"
                self._refuse(asker.delivery, job.envelope, Conflict(detail))

    def _refuse(self, delivery: Delivery, envelope: Envelope, error: JobError) -> None:
        outcome = Outcome.failed(self._component.result_model, envelope, error)
        self._settled(envelope, outcome)
        if not self._ledger.knows(envelope.job_id):
            # A bad copy of a good job is refused; the events are those of the good one.
            self._events_of(envelope).ended(outcome)
        self._spawn(self._settlement.answer(delivery, envelope, outcome))

    def _admit(self, job: Job, delivery: Delivery) -> None:
        live = self._live[job.id] = _Live(self._events_of(job.envelope))
        refused = refusal(
            job,
            delivery,
            self._component,
            cancelled=self._ledger.is_buried(job.id, self._clock.monotonic()),
            has_store=self._store is not None,
            time=self._clock.time(),
        )
        if refused is not None:
            self._finish(job, refused)
            return
        live.events.accepted()
        if job.deadline is not None:
            delay = max(job.deadline - self._clock.time(), 0.0)
            live.expiry = asyncio.get_running_loop().call_later(delay, self._expire, job)
        self._changed.set()

    async def _work(self) -> None:
        """Run one job after the other, until drained."""
        while not self._draining:
            job = self._ledger.start_next()
            if job is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            events = self._live[job.id].events
            running = self._running[job.id] = RunningJob(job, events, self._clock)
            outcome = await self._outcome(job, running)
            del self._running[job.id]
            if running.handed_back and outcome.status is Status.CANCELLED:
                self._give_back(job)
            else:
                self._finish(job, outcome)

    async def _outcome(self, job: Job, running: RunningJob) -> Outcome:
        """Run a job in the component; whatever happens there is an outcome."""
        started_at = self._clock.monotonic()
        self._live[job.id].events.started()
        log.info("job.started", job_id=job.id, attempt=job.envelope.attempt)
        result_model = self._component.result_model
        try:
            with self._metrics.running():
                result = await self._component.invoke(job.request, running)
            fitted = await fit(result, self._store, self._settings.max_inline_bytes)
        except JobStopped as stopped:
            return Outcome.stopped(result_model, job.envelope, stopped.status)
        except JobError as error:
            outcome = Outcome.failed(result_model, job.envelope, error)
        except Exception as error:
            log.exception("component.crashed", job_id=job.id)
            crash = InternalError(f"the component crashed: {type(error).__name__}: {error}")
            outcome = Outcome.failed(result_model, job.envelope, crash)
        else:
            outcome = Outcome(fitted)
        return self._described(job, outcome, started_at)

    def _described(self, job: Job, outcome: Outcome, started_at: float) -> Outcome:
        """Fill in what only the node knows: its name, and the time that the job took."""
        device = self._component.device()
        node = NodeInfo(
            instance_id=self._instance_id,
            version=__version__,
            device=device and device.device,
            dtype=device and device.dtype,
        )
        return outcome.of(job, node, started_at, self._clock.monotonic())

    def _finish(self, job: Job, outcome: Outcome) -> None:
        outcome = without_further_attempt(job, outcome, self._clock.time())
        events = self._end(job.id)
        if outcome.disposition in (Disposition.RETRY, Disposition.FORWARD):
            for asker in self._ledger.drop(job.id):
                self._spawn(self._send_on(asker, outcome))
            return
        size_bytes = len(outcome.result.to_json())
        askers = self._ledger.finish(job.id, outcome, size_bytes)
        self._settled(job.envelope, outcome)
        events.ended(outcome)
        for asker in askers:
            self._spawn(self._settlement.answer(asker.delivery, asker.job.envelope, outcome))

    async def _send_on(self, asker: Asker, outcome: Outcome) -> None:
        if await self._settlement.send_on(asker.delivery, asker.job, outcome):
            return
        final = replace(outcome, disposition=Disposition.DEAD_LETTER)
        self._settled(asker.job.envelope, final)
        self._events_of(asker.job.envelope).ended(final)
        await self._settlement.answer(asker.delivery, asker.job.envelope, final)

    def cancel(self, job_id: str) -> None:
        """Stop a job: now, when it runs; at once, when it waits; on arrival, when it is unknown."""
        if job_id in self._running:
            self._running[job_id].cancel()
        elif self._ledger.is_waiting(job_id):
            self._stop_waiting(job_id, Status.CANCELLED)
        elif not self._ledger.is_finished(job_id):
            self._ledger.bury(job_id, self._clock.monotonic())
        log.info("job.cancel_requested", job_id=job_id, running=job_id in self._running)

    def _expire(self, job: Job) -> None:
        if self._ledger.is_waiting(job.id):
            self._stop_waiting(job.id, Status.EXPIRED)

    def _stop_waiting(self, job_id: str, status: Status) -> None:
        job = self._ledger.active(job_id)
        self._finish(job, Outcome.stopped(self._component.result_model, job.envelope, status))

    async def drain(self, grace_seconds: float) -> None:
        """Take no more, give back what has not started, let running jobs finish or hand them back.

        `run` returns when that is done.
        """
        self._draining = True
        await self._inbox.stop_consuming()
        for job in self._ledger.waiting():
            self._give_back(job)
        self._changed.set()
        log.info("worker.draining", running=list(self._running), grace_seconds=grace_seconds)
        asyncio.get_running_loop().call_later(grace_seconds, self.hand_back)

    def hand_back(self) -> None:
        """Stop running jobs and give them to other nodes; soon after, stop everything."""
        for running in self._running.values():
            running.hand_back()
        asyncio.get_running_loop().call_later(LAST_ANSWERS_SECONDS, self._abandon)

    def _abandon(self) -> None:
        """End what is still going on: unanswered requests go back when the channel closes."""
        for task in self._started:
            log.warning("worker.abandoned", task=task.get_name())
            task.cancel()

    def _give_back(self, job: Job) -> None:
        self._end(job.id)
        log.info("request.given_back", job_id=job.id)
        for asker in self._ledger.drop(job.id):
            self._spawn(self._inbox.requeue(asker.delivery))

    def knows_cancelled(self, job_id: str) -> bool:
        """Say whether a cancel waits for this job to arrive."""
        return self._ledger.is_buried(job_id, self._clock.monotonic())

    def busy(self) -> int:
        """Count the jobs that run."""
        return len(self._running)

    def waiting(self) -> int:
        """Count the jobs that were taken and have not started."""
        return len(self._ledger.waiting())

    def _spawn(self, answering: Coroutine[Any, Any, Any]) -> None:
        self._start(self._unharmed(answering))

    def _start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        task = self._tasks.create_task(coroutine)
        self._started.add(task)
        task.add_done_callback(self._started.discard)

    async def _unharmed(self, answering: Coroutine[Any, Any, Any]) -> None:
        """Let no answer that goes wrong end the node.

        Its delivery stays unanswered: the broker hands it out again when this connection ends,
        and gives it up at its delivery limit.
        """
        try:
            await answering
        except Exception:
            log.critical("answer.crashed", exc_info=True)

    def _end(self, job_id: str) -> JobEvents:
        live = self._live.pop(job_id)
        if live.expiry is not None:
            live.expiry.cancel()
        return live.events

    def _events_of(self, envelope: Envelope) -> JobEvents:
        return JobEvents(self._component.name, envelope, self._outbox, self._clock)

    def _settled(self, envelope: Envelope, outcome: Outcome) -> None:
        """Count an outcome, and log the one canonical line of its request."""
        self._metrics.settled(outcome)
        error, timings = outcome.error, outcome.result.timings
        log.info(
            "request.settled",
            job_id=envelope.job_id,
            status=outcome.status.value,
            code=error.code.value if error else None,
            detail=error.detail if error else None,
            attempt=envelope.attempt,
            queue_seconds=timings.queue_seconds,
            total_seconds=timings.total_seconds,
        )
