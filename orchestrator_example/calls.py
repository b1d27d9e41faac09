"""One stage of a chain: jobs at its services, until one gives an answer."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, assert_never

import structlog
from pydantic import ValidationError

from contracts.events import JobEvent, StageEvent, TerminalEvent
from contracts.failure import FailureCode
from contracts.megaservice import StageReport, StageStatus
from contracts.message import HEADER_REPLAY, AnyMessage
from contracts.result import AnyResult, Status
from node.client import Client
from node.component import Invocation
from node.errors import (
    BrokerUnavailable,
    JobNotSucceeded,
    MessageTooLarge,
    MessagingError,
    Overloaded,
    Unroutable,
)
from node.ingress.decoding import explain
from node.ports import Clock
from node.watches import terminal_event
from orchestrator_example.ends import explained, failed
from orchestrator_example.graph import Stage
from orchestrator_example.journal import Journal, fingerprint, stage_job_id
from orchestrator_example.policy import OnFailure, worth_a_fallback, worth_another_attempt
from orchestrator_example.service_clients import ServiceClients
from orchestrator_example.trace import stage_headers

LATE_SECONDS: Final = 2.0
"""How long after its deadline a stage's own answer is waited for."""
UNAVAILABLE_SECONDS: Final = 1.0
"""Pause before a service that could not be reached is asked again."""

log = structlog.get_logger(__name__)


class _Done(NamedTuple):
    service: str
    number: int
    result: AnyResult


@dataclass(slots=True)
class _Attempt:
    """One job of a stage; `waits_for` says why its service does not have it yet."""

    stage: Stage
    service: str
    number: int
    job_id: str
    waits_for: str = ""


class StageCalls:
    """Has the stages of one chain done by their services."""

    def __init__(
        self,
        clients: ServiceClients,
        journal: Journal,
        invocation: Invocation,
        clock: Clock,
        fraction: Callable[[], float],
    ) -> None:
        self._clients = clients
        self._journal = journal
        self._invocation = invocation
        self._clock = clock
        self._fraction = fraction
        self._log = log.bind(job_id=invocation.job_id)
        # The jobs without an answer yet, and the services that have them.
        self._open_jobs: dict[str, str] = {}

    async def perform(
        self, stage: Stage, request: Mapping[str, Any], numbers: Iterator[int]
    ) -> StageReport:
        """Try a stage as often as its policy says, then its fallback; say how it ended.

        `numbers` counts the jobs of the stage in this chain.
        """
        began = self._clock.monotonic()
        digest = await asyncio.to_thread(fingerprint, request)
        done = await self._try(stage, stage.service, request, digest, numbers)
        fallback = stage.policy.fallback
        if fallback is not None and worth_a_fallback(done.result) and not self._is_too_late():
            done = await self._try(stage, fallback, request, digest, numbers)
        return self._report(stage, done, round(self._clock.monotonic() - began, 3))

    async def cancel(self) -> None:
        """Stop every job that is still open."""
        for job_id, service in list(self._open_jobs.items()):
            await self._cancel_job(service, job_id)

    async def _try(
        self,
        stage: Stage,
        service: str,
        request: Mapping[str, Any],
        digest: str,
        numbers: Iterator[int],
    ) -> "_Done":
        """Have one service try as often as the policy says."""
        tries_left = stage.policy.retries
        while True:
            number = next(numbers)
            result = await self._attempt(stage, service, number, request, digest)
            is_over = result.status is not Status.FAILED or not worth_another_attempt(result.error)
            if is_over or tries_left == 0 or self._is_too_late():
                return _Done(service, number, result)
            tries_left -= 1

    async def _attempt(
        self, stage: Stage, service: str, number: int, request: Mapping[str, Any], digest: str
    ) -> AnyResult:
        """Have one job done, unless it was done before."""
        job_id = stage_job_id(self._invocation.job_id, stage.name, number, digest)
        attempt = _Attempt(stage, service, number, job_id)
        replay = self._invocation.context.replay
        result = await self._journal.find(job_id, replay)
        if result is None:
            self._open_jobs[job_id] = service
            result = explained(await self._call(attempt, request))
            result = await self._journal.keep(digest, result, replay)
            del self._open_jobs[job_id]
        self._tell(attempt, terminal_event(result))
        error = result.error
        self._log.info(
            "stage.ended",
            stage=stage.name,
            service=service,
            stage_job_id=job_id,
            status=result.status.value,
            code=error.code.value if error else None,
            detail=error.detail if error else None,
        )
        return result

    async def _call(self, attempt: _Attempt, request: Mapping[str, Any]) -> AnyResult:
        job_id = attempt.job_id
        try:
            message = AnyMessage.model_validate(request)
        except ValidationError as error:
            return failed(job_id, FailureCode.INVALID_REQUEST, explain(error))
        seconds = max(self._seconds_for(attempt.stage), 0.0)
        try:
            async with asyncio.timeout(seconds + LATE_SECONDS):
                result = await self._answer(attempt, message, seconds)
        except TimeoutError:
            await self._cancel_job(attempt.service, job_id)
            obstacles = self._clients.obstacles(attempt.service, message)
            why = attempt.waits_for or obstacles or "its nodes are busy"
        else:
            if result.status is not Status.EXPIRED:
                return result
            # That is the stage's timeout: only its own deadline makes a chain expire.
            why = result.error.detail if result.error else "it has expired"
        detail = f"{attempt.service} gave no answer in {seconds:.3g} s: {why}"
        return failed(job_id, FailureCode.DEADLINE_EXCEEDED, detail)

    async def _answer(self, attempt: _Attempt, message: AnyMessage, seconds: float) -> AnyResult:
        """Submit until the service has the job, and wait for what it says."""
        context, job_id = self._invocation.context, attempt.job_id
        client = self._clients[attempt.service]
        headers: dict[str, Any] = {
            HEADER_REPLAY: context.replay,
            **stage_headers(context.headers, self._invocation.job_id, job_id),
        }
        ends_at = self._clock.monotonic() + seconds
        try:
            while True:
                try:
                    await client.submit(
                        message,
                        job_id=job_id,
                        deadline_seconds=ends_at - self._clock.monotonic(),
                        priority=context.priority,
                        headers=headers,
                        watch=True,
                    )
                    attempt.waits_for = ""
                    return await self._result(client, attempt)
                except MessageTooLarge as error:
                    detail = f"its request is too large for a message: {error}"
                    return failed(job_id, FailureCode.INVALID_REQUEST, detail)
                except (Overloaded, MessagingError) as error:
                    await self._wait(attempt, error)
        finally:
            # A request that is not waited for any more must not be published again.
            client.forget(job_id)

    async def _wait(self, attempt: _Attempt, error: Overloaded | MessagingError) -> None:
        if str(error) != attempt.waits_for:
            attempt.waits_for = str(error)
            self._log.warning(
                "stage.waits",
                stage=attempt.stage.name,
                stage_job_id=attempt.job_id,
                why=attempt.waits_for,
            )
        seconds = (
            error.retry_after_seconds if isinstance(error, Overloaded) else UNAVAILABLE_SECONDS
        )
        await asyncio.sleep(seconds)

    async def _result(self, client: Client, attempt: _Attempt) -> AnyResult:
        """Wait for the result of a job; what it tells on its way is passed on."""
        relay = asyncio.create_task(self._relay(client, attempt))
        try:
            result = await client.result(attempt.job_id)
        except JobNotSucceeded as error:
            result = error.result
        finally:
            relay.cancel()
        assert isinstance(result, AnyResult)
        return result

    async def _relay(self, client: Client, attempt: _Attempt) -> None:
        async for event in client.events(attempt.job_id):
            if not isinstance(event, TerminalEvent):
                self._tell(attempt, event)

    def _tell(self, attempt: _Attempt, event: JobEvent) -> None:
        name = attempt.stage.name
        if isinstance(event, StageEvent):
            # A mega-service is a stage here: its stages are named below it.
            name, event = f"{name}/{event.stage}", event.stage_event
        self._invocation.stage(name, attempt.number, self._fraction(), event)

    async def _cancel_job(self, service: str, job_id: str) -> None:
        try:
            await self._clients[service].cancel(job_id)
        except (Unroutable, BrokerUnavailable) as error:
            # Its deadline ends the job all the same.
            self._log.warning("stage.not_cancelled", stage_job_id=job_id, why=str(error))

    def _seconds_for(self, stage: Stage) -> float:
        deadline = self._invocation.context.deadline
        left = stage.policy.timeout_seconds
        return left if deadline is None else min(left, deadline - self._clock.time())

    def _is_too_late(self) -> bool:
        deadline = self._invocation.context.deadline
        return deadline is not None and self._clock.time() >= deadline

    def _report(self, stage: Stage, done: "_Done", seconds: float) -> StageReport:
        status, output = self._ended(stage, done.result)
        return StageReport(
            service=done.service,
            status=status,
            job_id=done.result.job_id,
            attempts=done.number,
            seconds=seconds,
            output=output,
            warnings=done.result.warnings,
            error=done.result.error,
        )

    def _ended(self, stage: Stage, result: AnyResult) -> tuple[StageStatus, dict[str, Any]]:
        if result.status is Status.SUCCEEDED:
            return StageStatus.SUCCEEDED, dict(result.model_extra or {})
        if result.status is Status.CANCELLED:
            return StageStatus.CANCELLED, {}
        if self._is_too_late():
            return StageStatus.EXPIRED, {}
        match stage.policy.on_failure:
            case OnFailure.SKIP:
                return StageStatus.SKIPPED, {}
            case OnFailure.SUBSTITUTE:
                return StageStatus.SUBSTITUTED, dict(stage.policy.substitute or {})
            case OnFailure.FAIL:
                return StageStatus.FAILED, {}
            case _ as never:
                assert_never(never)
