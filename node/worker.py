"""The life of a request, top to bottom.

    _receive   a delivery is decoded, and claimed as a new job or as one more copy of a known one
    _enter     a job that some node finished is answered at once; else the work is made ours
    _admit     limits, deadline and earlier cancels are checked; the job waits
    _work      the next job runs in the component
    _finish    its outcome is kept, and every copy of the request is answered with it

Everything runs on one event loop, and only this module changes the ledger. A delivery is acked
after the broker confirmed the message that answers it (`egress.settlement`), never before.
"""

import asyncio
from dataclasses import dataclass, replace
from typing import Final

import structlog

from contracts.result import Status
from contracts.topology import unanswered_queue
from node.answers import Answers
from node.component import Component
from node.egress.events import JobEvents
from node.errors import Disposition
from node.execution import Execution
from node.ingress.admission import refusal
from node.ingress.decoding import Arrival, Undecodable, decode
from node.invocation import RunningJob
from node.job import Job, Outcome
from node.ports import Clock, Delivery, Inbox, KeptResult, Outbox, ResultStore
from node.scheduling.attempts import without_further_attempt
from node.scheduling.ledger import Asker, Claim, Ledger
from node.settings import Settings
from node.tasks import Crew
from node.telemetry.metrics import Metrics

LAST_ANSWERS_SECONDS: Final = 5.0
"""How long answers may take to get out after running jobs were told to stop."""
HELD_ELSEWHERE_SECONDS: Final = 1.0
"""Pause before looking again whether another node is done with a job."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Live:
    """What belongs to a job from its first delivery to its end."""

    events: JobEvents
    expiry: asyncio.TimerHandle | None = None


class Worker:
    """Serves one component from one inbox."""

    def __init__(
        self,
        component: Component,
        inbox: Inbox,
        outbox: Outbox,
        results: ResultStore,
        execution: Execution,
        *,
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._component = component
        self._inbox = inbox
        self._results = results
        self._execution = execution
        self._answers = Answers(
            component.name,
            component.result_model,
            inbox,
            outbox,
            results,
            clock=clock,
            metrics=metrics,
        )
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._ledger = Ledger()
        self._running: dict[str, RunningJob] = {}
        self._live: dict[str, _Live] = {}
        self._changed = asyncio.Event()
        self._draining = False
        self._tasks = Crew()
        self.unfit = asyncio.Event()
        """Set once this node should take no more work; `Execution.unfit` says why."""

    async def run(self) -> None:
        """Serve until drained, and everything that was taken is settled or given back."""
        late: list[Delivery] = []
        async with self._tasks:
            for _ in range(self._settings.slots):
                self._tasks.start(self._work())
            async for delivery in self._inbox:
                if self._draining:
                    late.append(delivery)
                else:
                    self._receive(delivery)
            # Not before consuming has stopped: the broker would hand them to this node again,
            # and count each time against their delivery limit.
            for delivery in late:
                self._tasks.spawn(self._inbox.requeue(delivery))

    def _receive(self, delivery: Delivery) -> None:
        self._metrics.received(delivery.redelivered)
        arrival = Arrival(delivery.message, self._clock.monotonic(), self._clock.time())
        decoded = decode(arrival, self._component.request_model, self._settings.max_request_bytes)
        if isinstance(decoded, Undecodable):
            is_known = self._ledger.knows(decoded.envelope.job_id)
            refusing = self._answers.refuse(
                delivery, decoded.envelope, decoded.error, is_known=is_known
            )
            self._tasks.spawn(refusing)
        else:
            self._claim(Asker(decoded, delivery))

    def _claim(self, asker: Asker) -> None:
        job = asker.job
        if self._must_not_wait(asker):
            self._tasks.spawn(self._answers.give_up(asker))
            return
        match self._ledger.claim(asker):
            case Claim.NEW:
                self._live[job.id] = _Live(self._answers.events_of(job.envelope), self._expiry(job))
                self._tasks.spawn(self._enter(job, asker.delivery))
            case Claim.JOINED:
                log.info("request.joined", job_id=job.id, redelivered=asker.delivery.redelivered)
            case Claim.CONFLICT:
                self._tasks.spawn(self._answers.refuse_conflict(asker))

    def _must_not_wait(self, asker: Asker) -> bool:
        """Say whether a request that the broker gave up would wait for another copy of it.

        That copy may end this process as the given-up one ended others, until the broker forgets
        both. Where no other copy is left, the job runs here because its connection was lost often.
        """
        return asker.delivery.queue == unanswered_queue(self._component.name) and any(
            self._inbox.is_live(each.delivery) for each in self._ledger.askers(asker.job)
        )

    async def _enter(self, job: Job, delivery: Delivery) -> None:
        """Answer a job that was finished before, here or elsewhere; else make the work ours."""
        held_elsewhere = False
        while self._ledger.has_taken(job):
            kept, claimed = await self._find(job), False
            if kept is None and (claimed := await self._results.claim(job.id)):
                # Between the look and the claim another node might have finished.
                kept = await self._find(job)
            if not self._ledger.has_taken(job) or kept is not None:
                if claimed:
                    await self._results.release(job.id)
                if kept is not None and self._ledger.has_taken(job):
                    self._replay(job, kept)
            elif claimed:
                self._admit(job, delivery)
            else:
                if not held_elsewhere:
                    log.info("request.held_elsewhere", job_id=job.id)
                held_elsewhere = True
                await asyncio.sleep(HELD_ELSEWHERE_SECONDS)

    async def _find(self, job: Job) -> KeptResult | None:
        """Look for the result of a job; that of a failure does not count once it is replayed."""
        kept = await self._results.find(job.id)
        if kept is None or kept.outcome.status is Status.SUCCEEDED or kept.replay >= job.replay:
            return kept
        return None

    def _replay(self, job: Job, kept: KeptResult) -> None:
        """Answer everyone who asks for a finished job."""
        log.info("request.replayed", job_id=job.id)
        self._end(job.id)
        for asker in self._ledger.drop(job.id):
            self._tasks.spawn(self._answers.answer(asker, kept))

    def _admit(self, job: Job, delivery: Delivery) -> None:
        refused = refusal(
            job,
            delivery,
            self._component,
            # A cancel from before a person replayed the request was meant for what failed then.
            cancelled=not job.replay and self._ledger.is_buried(job.id, self._clock.monotonic()),
            has_store=self._execution.has_store,
            time=self._clock.time(),
        )
        if refused is not None:
            self._finish(job, refused)
            return
        self._ledger.admit(job.id)
        self._live[job.id].events.accepted()
        self._changed.set()

    async def _work(self) -> None:
        """Run one job after the other, until drained or unfit."""
        while not self._draining and not self.unfit.is_set():
            job = self._ledger.start_next()
            if job is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            events = self._live[job.id].events
            running = self._running[job.id] = RunningJob(job, events, self._clock)
            events.started()
            log.info("job.started", job_id=job.id, attempt=job.envelope.attempt)
            outcome = await self._execution.outcome(job, running)
            del self._running[job.id]
            if running.cancelled and outcome.disposition is Disposition.RETRY:
                # It failed before it could stop; another attempt would not know of the cancel.
                outcome = self._stopped(job, Status.CANCELLED)
            if running.handed_back and outcome.status is Status.CANCELLED:
                self._give_back(job)
            else:
                self._finish(job, outcome)
            if self._execution.unfit:
                self.unfit.set()

    def _finish(self, job: Job, outcome: Outcome) -> None:
        attempt = self._ledger.attempt(job.id)
        outcome = without_further_attempt(job.tried(attempt), outcome, self._clock.time())
        events = self._end(job.id)
        if outcome.disposition in (Disposition.RETRY, Disposition.FORWARD):
            self._tasks.spawn(self._results.release(job.id))
            for asker in self._ledger.drop(job.id):
                copy = replace(asker, job=asker.job.tried(attempt))
                self._tasks.spawn(self._answers.send_on(copy, outcome))
        else:
            self._ledger.end(job.id)
            self._tasks.spawn(self._conclude(job, outcome, events))

    async def _conclude(self, job: Job, outcome: Outcome, events: JobEvents) -> None:
        """Keep an outcome, and answer with the one that stands, another node's perhaps."""
        kept = await self._results.keep(KeptResult(job.id, job.fingerprint, outcome, job.replay))
        self._tasks.spawn(self._results.release(job.id))
        if kept.fingerprint == job.fingerprint:
            self._answers.ended(job.envelope, kept.outcome, events)
        for asker in self._ledger.drop(job.id):
            self._tasks.spawn(self._answers.answer(asker, kept))

    def cancel(self, job_id: str) -> None:
        """Stop a job: now, when it runs; at once, when it waits; on arrival, when it is unknown.

        Jobs that were started for it are stopped with it: who started them may be gone.
        """
        for each in self._ledger.family(job_id):
            if each in self._running:
                self._running[each].cancel()
            elif self._ledger.is_waiting(each):
                self._stop_waiting(each, Status.CANCELLED)
        if not self._ledger.knows(job_id):
            self._ledger.bury(job_id, self._clock.monotonic())
        log.info("job.cancel_requested", job_id=job_id, running=job_id in self._running)

    def _expiry(self, job: Job) -> asyncio.TimerHandle | None:
        if job.deadline is None:
            return None
        delay = max(job.deadline - self._clock.time(), 0.0)
        return asyncio.get_running_loop().call_later(delay, self._expire, job)

    def _expire(self, job: Job) -> None:
        if self._ledger.is_waiting(job.id):
            self._stop_waiting(job.id, Status.EXPIRED)

    def _stop_waiting(self, job_id: str, status: Status) -> None:
        job = self._ledger.job(job_id)
        self._finish(job, self._stopped(job, status))

    def _stopped(self, job: Job, status: Status) -> Outcome:
        return Outcome.stopped(self._component.result_model, job.envelope, status)

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
        """Stop running jobs and give them to other nodes; soon after, stop everything.

        What is unanswered then goes back when the channel closes.
        """
        for running in self._running.values():
            running.hand_back()
        asyncio.get_running_loop().call_later(LAST_ANSWERS_SECONDS, self._tasks.abandon)

    def _give_back(self, job: Job) -> None:
        self._end(job.id)
        log.info("request.given_back", job_id=job.id)
        self._tasks.spawn(self._results.release(job.id))
        for asker in self._ledger.drop(job.id):
            self._tasks.spawn(self._inbox.requeue(asker.delivery))

    def knows_cancelled(self, job_id: str) -> bool:
        """Say whether a cancel waits for this job to arrive."""
        return self._ledger.is_buried(job_id, self._clock.monotonic())

    def busy(self) -> int:
        """Count the jobs that run."""
        return len(self._running)

    def waiting(self) -> int:
        """Count the jobs that were taken and have not started."""
        return len(self._ledger.waiting())

    def _end(self, job_id: str) -> JobEvents:
        live = self._live.pop(job_id)
        if live.expiry is not None:
            live.expiry.cancel()
        return live.events
