"""One stage of a chain: jobs at its services, until one gives an answer."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, assert_never

import structlog
from pydantic import ValidationError

from contracts.events import JobEvent, StageEvent, TerminalEvent
from contracts.failure import FailureCode, Problem
from contracts.megaservice import StageReport, StageStatus
from contracts.message import HEADER_REPLAY, AnyMessage
from contracts.result import AnyResult, Status
from node.client import Client
from node.component import Invocation
from node.errors import (
    BrokerUnavailable,
    JobNotSucceeded,
    MessagingError,
    ModelNotAvailable,
    Overloaded,
    Unroutable,
)
from node.ingress.decoding import explain
from node.ports import Clock
from node.watches import terminal_event
from orchestrator_example.graph import Stage
from orchestrator_example.journal import Journal, fingerprint, stage_job_id
from orchestrator_example.policy import OnFailure, worth_another_attempt
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


class StageCalls:
    """Has the stages of one chain done by their services.

    `open_jobs` are the jobs without an answer yet: their ids, and the services that have them.
    """

    def __init__(
        self,
        clients: Mapping[str, Client],
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
        self.open_jobs: dict[str, str] = {}

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
        if fallback is not None and done.result.status is Status.FAILED and not self._is_too_late():
            done = await self._try(stage, fallback, request, digest, numbers)
        return self._report(stage, done, round(self._clock.monotonic() - began, 3))

    async def cancel(self) -> None:
        """Stop every job that is still open."""
        for job_id, service in list(self.open_jobs.items()):
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
        replay = self._invocation.context.replay
        result = await self._journal.find(job_id, replay)
        if result is None:
            self.open_jobs[job_id] = service
            result = await self._call(stage, service, number, job_id, request)
            result = await self._journal.keep(digest, result, replay)
            del self.open_jobs[job_id]
        self._tell(stage, number, terminal_event(result))
        log.info(
            "stage.ended",
            job_id=self._invocation.job_id,
            stage=stage.name,
            stage_job_id=job_id,
            status=result.status.value,
            detail=result.error.detail if result.error else None,
        )
        return result

    async def _call(
        self, stage: Stage, service: str, number: int, job_id: str, request: Mapping[str, Any]
    ) -> AnyResult:
        try:
            message = AnyMessage.model_validate(request)
        except ValidationError as error:
            return _failed(job_id, FailureCode.INVALID_REQUEST, explain(error))
        seconds = max(self._seconds_for(stage), 0.0)
        try:
            async with asyncio.timeout(seconds + LATE_SECONDS):
                result = await self._answer(stage, service, number, job_id, message, seconds)
        except TimeoutError:
            await self._cancel_job(service, job_id)
            result = _failed(job_id, FailureCode.DEADLINE_EXCEEDED, f"{service} gave no answer")
        if result.status is Status.EXPIRED:
            # That is the stage's timeout: only its own deadline makes a chain expire.
            assert result.error is not None
            detail = f"{result.error.detail} ({service} had {seconds:.3g} s)"
            return _failed(job_id, FailureCode.DEADLINE_EXCEEDED, detail)
        return result

    async def _answer(
        self,
        stage: Stage,
        service: str,
        number: int,
        job_id: str,
        message: AnyMessage,
        seconds: float,
    ) -> AnyResult:
        """Submit until the service has the job, and wait for what it says."""
        context = self._invocation.context
        client = self._clients[service]
        headers: dict[str, Any] = {
            HEADER_REPLAY: context.replay,
            **stage_headers(context.headers, self._invocation.job_id, job_id),
        }
        ends_at = self._clock.monotonic() + seconds
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
                return await self._result(client, stage, number, job_id)
            except ModelNotAvailable as error:
                return _failed(job_id, FailureCode.MODEL_NOT_AVAILABLE, error.detail)
            except Overloaded as error:
                wait_seconds, why = error.retry_after_seconds, str(error)
            except MessagingError as error:
                wait_seconds, why = UNAVAILABLE_SECONDS, str(error)
            log.warning("stage.waits", stage=stage.name, stage_job_id=job_id, why=why)
            await asyncio.sleep(wait_seconds)

    async def _result(self, client: Client, stage: Stage, number: int, job_id: str) -> AnyResult:
        """Wait for the result of a job; what it tells on its way is passed on."""
        relay = asyncio.create_task(self._relay(client, stage, number, job_id))
        try:
            result = await client.result(job_id)
        except JobNotSucceeded as error:
            result = error.result
        finally:
            relay.cancel()
        assert isinstance(result, AnyResult)
        return result

    async def _relay(self, client: Client, stage: Stage, number: int, job_id: str) -> None:
        async for event in client.events(job_id):
            if not isinstance(event, TerminalEvent):
                self._tell(stage, number, event)

    def _tell(self, stage: Stage, number: int, event: JobEvent) -> None:
        if isinstance(event, StageEvent):
            # A mega-service is a stage here: its stages are named below it.
            name, event = f"{stage.name}/{event.stage}", event.stage_event
        else:
            name = stage.name
        self._invocation.stage(name, number, self._fraction(), event)

    async def _cancel_job(self, service: str, job_id: str) -> None:
        try:
            await self._clients[service].cancel(job_id)
        except (Unroutable, BrokerUnavailable) as error:
            # Its deadline ends the job all the same.
            log.warning("stage.not_cancelled", stage_job_id=job_id, why=str(error))

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


def _failed(job_id: str, code: FailureCode, detail: str) -> AnyResult:
    retryable = code is FailureCode.DEADLINE_EXCEEDED
    problem = Problem.of(code, detail, job_id=job_id, retryable=retryable)
    return AnyResult(job_id=job_id, status=Status.FAILED, error=problem)
