"""One job in the component: whatever happens there is an outcome."""

import asyncio

import structlog

from contracts.result import JobResult, NodeInfo, Status
from node import __version__
from node.component import Component
from node.egress.artifacts import fit
from node.errors import Disposition, InternalError, JobError, JobStopped
from node.invocation import RunningJob
from node.job import Job, Outcome
from node.ports import ArtifactStore, Clock
from node.scheduling.fitness import Fitness
from node.settings import Settings
from node.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class Execution:
    """Runs jobs in one component, and judges by their ends whether the node is fit for more."""

    def __init__(
        self,
        component: Component,
        *,
        settings: Settings,
        instance_id: str,
        clock: Clock,
        metrics: Metrics,
        store: ArtifactStore | None,
    ) -> None:
        self._component = component
        self._settings = settings
        self._instance_id = instance_id
        self._clock = clock
        self._metrics = metrics
        self._store = store
        self._fitness = Fitness(settings.max_failed_jobs)

    @property
    def unfit(self) -> str:
        """Why the node should take no more work; empty as long as it should."""
        return self._fitness.reason

    @property
    def has_store(self) -> bool:
        """Whether images can be kept outside of messages."""
        return self._store is not None

    async def outcome(self, job: Job, running: RunningJob) -> Outcome:
        """Run a job to its end."""
        started_at = self._clock.monotonic()
        try:
            result = await self._fitted(await self._invoke(job, running))
            has_failed = result.status is Status.FAILED
            outcome = Outcome(result, Disposition.DEAD_LETTER if has_failed else Disposition.ACK)
        except JobStopped as stopped:
            return Outcome.stopped(self._component.result_model, job.envelope, stopped.status)
        except JobError as error:
            outcome = Outcome.failed(self._component.result_model, job.envelope, error)
        return self._described(job, outcome, started_at)

    async def _invoke(self, job: Job, running: RunningJob) -> JobResult:
        """Call the component. Raises JobStopped, JobError."""
        try:
            with self._metrics.running():
                result = await self._unless_stalled(job, running)
        except JobStopped:
            raise
        except Exception as error:
            failure = error if isinstance(error, JobError) else self._crash(job, error)
            self._judge(job, Outcome.failed(self._component.result_model, job.envelope, failure))
            raise failure from error
        self._judge(job, Outcome(result))
        return result

    def _crash(self, job: Job, error: Exception) -> InternalError:
        log.error("component.crashed", job_id=job.id, exc_info=error)
        return InternalError(f"the component crashed: {type(error).__name__}: {error}")

    def _judge(self, job: Job, outcome: Outcome) -> None:
        self._fitness.job_ended(job.id, outcome)
        health = self._component.health()
        if not health.healthy:
            self._fitness.broke(health.detail)

    async def _unless_stalled(self, job: Job, running: RunningJob) -> JobResult:
        """Await the component, as long as it gives signs of life. Raises InternalError.

        A call that hangs in a thread cannot be ended from here: the process must start anew.
        """
        stall_seconds = self._settings.stall_seconds
        work = asyncio.create_task(self._component.invoke(job.request, running), name=job.id)
        try:
            while not work.done():
                left = running.sign_of_life_at + stall_seconds - self._clock.monotonic()
                if left <= 0:
                    self._fitness.broke(f"a job gave no sign of life for {stall_seconds:g} s")
                    raise InternalError(
                        f"no sign of life for {stall_seconds:g} s (NODE_STALL_SECONDS); "
                        "the node starts anew"
                    )
                await asyncio.wait({work}, timeout=left)
            return work.result()
        finally:
            work.cancel()

    async def _fitted(self, result: JobResult) -> JobResult:
        return await fit(result, self._store, self._settings.max_inline_bytes)

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
