"""What callers, listeners and operators are told about a request once its end is known."""

from dataclasses import replace

import structlog

from contracts.result import JobResult
from node.egress.events import JobEvents
from node.egress.settlement import Settlement
from node.errors import Conflict, Disposition, JobError
from node.ingress.given_up import given_up
from node.job import Envelope, Outcome
from node.ports import Clock, Delivery, Inbox, KeptResult, Outbox, ResultStore
from node.scheduling.ledger import Asker
from node.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class Answers:
    """Answers the requests of one service: to the caller, as events, in the log and in figures."""

    def __init__(
        self,
        service: str,
        result_model: type[JobResult],
        inbox: Inbox,
        outbox: Outbox,
        results: ResultStore,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._service = service
        self._result_model = result_model
        self._outbox = outbox
        self._results = results
        self._clock = clock
        self._metrics = metrics
        self._settlement = Settlement(service, inbox, outbox, clock)

    def events_of(self, envelope: Envelope) -> JobEvents:
        """Begin to number the events of a job."""
        return JobEvents(self._service, envelope, self._outbox, self._clock)

    def ended(self, envelope: Envelope, outcome: Outcome, events: JobEvents | None) -> None:
        """Count an outcome, log the one canonical line of its request, publish its event."""
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
        if events is not None:
            events.ended(outcome)

    async def answer(self, asker: Asker, kept: KeptResult) -> None:
        """Send the result that stands to one who asked for it, then ack."""
        if kept.fingerprint != asker.job.fingerprint:
            await self.refuse_conflict(asker)
        else:
            await self._settlement.answer(asker.delivery, asker.job.envelope, kept.outcome)

    async def refuse(
        self, delivery: Delivery, envelope: Envelope, error: JobError, *, is_known: bool
    ) -> None:
        """Refuse a request. The events of a known job id are those of its good request."""
        outcome = Outcome.failed(self._result_model, envelope, error)
        is_known = is_known or await self._results.find(envelope.job_id) is not None
        self.ended(envelope, outcome, None if is_known else self.events_of(envelope))
        await self._settlement.answer(delivery, envelope, outcome)

    async def refuse_conflict(self, asker: Asker) -> None:
        """Refuse a request whose id belongs to another one."""
        job_id = asker.job.id
        detail = f"job id {job_id} belongs to a request with another body; use a new id"
        await self.refuse(asker.delivery, asker.job.envelope, Conflict(detail), is_known=True)

    async def send_on(self, asker: Asker, outcome: Outcome) -> None:
        """Send a request to its next attempt or its model; where nobody takes it, it has failed."""
        if not await self._settlement.send_on(asker.delivery, asker.job, outcome):
            final = replace(outcome, disposition=Disposition.DEAD_LETTER)
            await self._end(asker, final, self.events_of(asker.job.envelope))

    async def give_up(self, asker: Asker) -> None:
        """Answer a request that the broker gave up; copies of it that run get the same answer."""
        job = asker.job
        outcome = given_up(asker.delivery.message, job.envelope, self._result_model)
        await self._end(asker, outcome, None)

    async def _end(self, asker: Asker, outcome: Outcome, events: JobEvents | None) -> None:
        job = asker.job
        kept = await self._results.keep(KeptResult(job.id, job.fingerprint, outcome, job.replay))
        if kept.fingerprint == job.fingerprint:
            self.ended(job.envelope, kept.outcome, events)
        await self.answer(asker, kept)
