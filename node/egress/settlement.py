"""Answer deliveries: publish, wait for the confirm, then ack. Never the other way round."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, assert_never

import structlog

from contracts.topology import RESULTS, request_queues, unanswered_queue
from node.egress.messages import (
    dead_letter_message,
    forward_message,
    kept_result,
    result_message,
    retry_message,
)
from node.errors import (
    Disposition,
    MessageTooLarge,
    MessagingError,
    PublishRefused,
    ResultTooLarge,
    TopologyMismatch,
    Unroutable,
)
from node.job import Envelope, Job, Outcome
from node.ports import Clock, Delivery, Inbox, Outbox, OutgoingMessage

BACKOFF_FIRST_SECONDS: Final = 0.2
BACKOFF_MAX_SECONDS: Final = 5.0

NOWHERE_TO_GO: Final = (Unroutable, TopologyMismatch)

Publish = Callable[[], Awaitable[None]]

log = structlog.get_logger(__name__)


class Settlement:
    """Answers deliveries of one service, for as long as the broker waits for the answer.

    When a delivery goes stale, answering stops: the broker hands its message out again, and
    whoever gets it answers that one. Not so when the queue was deleted: then nobody else will.
    """

    def __init__(self, service: str, inbox: Inbox, outbox: Outbox, clock: Clock) -> None:
        self._service = service
        self._inbox = inbox
        self._outbox = outbox
        self._clock = clock

    async def answer(self, delivery: Delivery, envelope: Envelope, outcome: Outcome) -> bool:
        """Publish the result, and the dead letter where one is due; then ack.

        Returns False when the delivery went stale first.
        """
        now = self._clock.time()
        result = result_message(self._service, outcome, envelope, now)
        publish = partial(self._publish_result, result, envelope)
        try:
            sent = await self._persistently(delivery, publish, (MessageTooLarge,))
        except MessageTooLarge as error:
            log.error("result.too_large", job_id=envelope.job_id, why=str(error))
            refused = ResultTooLarge(f"{error}; let the operator lower NODE_MAX_INLINE_BYTES")
            failed = Outcome.failed(type(outcome.result), envelope, refused)
            return await self.answer(delivery, envelope, failed)
        if sent and self._needs_dead_letter(delivery, outcome):
            dead = dead_letter_message(
                self._service, delivery.message, envelope.job_id, outcome, now
            )
            sent = await self._persistently(delivery, partial(self._outbox.publish, dead))
        return sent and await self._inbox.ack(delivery)

    async def send_on(self, delivery: Delivery, job: Job, outcome: Outcome) -> bool:
        """Send a request to a retry queue or to its model's queue, then ack.

        Returns False when no queue takes it: then it must be answered here.
        """
        message = self._next_hop(delivery, job, outcome)
        if message is None:
            return False
        try:
            publish = partial(self._outbox.publish, message)
            if await self._persistently(delivery, publish, (*NOWHERE_TO_GO, PublishRefused)):
                await self._inbox.ack(delivery)
        except (*NOWHERE_TO_GO, PublishRefused) as error:
            log.info("request.not_sent_on", job_id=job.id, to=message.routing_key, why=str(error))
            return False
        why = outcome.error.detail if outcome.error else None
        log.info("request.sent_on", job_id=job.id, to=message.routing_key, why=why)
        return True

    def _next_hop(self, delivery: Delivery, job: Job, outcome: Outcome) -> OutgoingMessage | None:
        original = delivery.message
        match outcome.disposition:
            case Disposition.RETRY:
                return retry_message(
                    self._service, original, job.id, job.envelope.attempt, job.deadline
                )
            case Disposition.FORWARD:
                model_id = getattr(job.request, "model", None)
                if model_id is None or delivery.queue not in request_queues(self._service):
                    return None
                return forward_message(self._service, original, job.id, model_id, job.deadline)
            case Disposition.ACK | Disposition.DEAD_LETTER:
                return None
            case _ as never:
                assert_never(never)

    def _needs_dead_letter(self, delivery: Delivery, outcome: Outcome) -> bool:
        # What comes from the queue of unanswered requests lies in the dead-letter queue already.
        return outcome.disposition is not Disposition.ACK and delivery.queue != unanswered_queue(
            self._service
        )

    async def _publish_result(self, result: OutgoingMessage, envelope: Envelope) -> None:
        try:
            await self._outbox.publish(result)
        except (*NOWHERE_TO_GO, PublishRefused) as error:
            if result.exchange == RESULTS:
                raise
            # The caller's queue is gone or full, or we may not write to it: keep the result.
            log.warning("reply.unroutable", job_id=envelope.job_id, why=str(error))
            await self._outbox.publish(kept_result(self._service, result, envelope))

    async def _persistently(
        self, delivery: Delivery, publish: Publish, final: tuple[type[MessagingError], ...] = ()
    ) -> bool:
        """Publish until confirmed; False once the delivery is stale. Raises `final` errors only."""
        backoff = BACKOFF_FIRST_SECONDS
        while self._inbox.is_live(delivery) or self._inbox.is_orphan(delivery):
            try:
                await publish()
            except final:
                raise
            except MessagingError as error:
                log.warning("publish.repeated", why=str(error), next_try_seconds=backoff)
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, BACKOFF_MAX_SECONDS)
            else:
                return True
        return False
