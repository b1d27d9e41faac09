"""One request on its way through a graph of stages.

    run      begin every stage whose predecessors have ended, wait for the next one to end, repeat
    _begin   make the stage's request of what flows in, and have it done (`calls`)
    _ended   take its report; where the graph says so, run a part again

Nothing here is lost with the process: the same request runs through the same graph to the same
stage jobs, and what a job answered is in the journal. So another orchestrator, or this one again,
goes on where the last one ended. All state stays on the event loop.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Iterator

import structlog

from contracts.failure import FailureCode, Problem
from contracts.megaservice import StageReport, StageStatus
from contracts.result import Status
from orchestrator_example.calls import StageCalls
from orchestrator_example.graph import Document, ServiceGraph, Stage
from orchestrator_example.mapping import MappingError, RefusedParameter, stage_request
from orchestrator_example.planning import CHAIN_ENDS, WENT_WELL, due_repeat, next_steps

log = structlog.get_logger(__name__)


class Chain:
    """Runs one request; `reports` tell at any time what became of each stage.

    `superseded` are the reports of what was made again.
    """

    def __init__(self, graph: ServiceGraph, request: Document, job_id: str) -> None:
        self._graph = graph
        self._request = request
        self._job_id = job_id
        self.reports: dict[str, StageReport] = {}
        self.superseded: list[StageReport] = []
        self._under_way: dict[asyncio.Task[StageReport], str] = {}
        self._numbers: dict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))
        self._repeated: dict[str, int] = defaultdict(int)

    def fraction(self) -> float:
        """Say which share of the stages has ended."""
        return len(self.reports) / max(len(self._graph.stages), 1)

    async def run(self, calls: StageCalls) -> None:
        """Run until every stage has ended, or one of them for all."""
        try:
            while self._begin_next(calls):
                ended, _ = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    self._ended(self._under_way.pop(task), task.result())
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)
        self.stopped(Status.CANCELLED, "the end of another stage stopped it")
        # What one stage that ended for all has left open; none of it can begin a job any more.
        await calls.cancel()

    def stopped(self, status: Status, reason: str | None = None) -> None:
        """Report the stages that are under way as stopped."""
        for name in self._under_way.values():
            service = self._graph.stage(name).service
            self.reports[name] = StageReport(
                service=service, status=StageStatus(status.value), reason=reason
            )

    def _begin_next(self, calls: StageCalls) -> bool:
        """Begin what can begin; False when nothing is left to wait for, or worth it."""
        while not self._is_over():
            steps = next_steps(self._graph, self.reports, set(self._under_way.values()))
            for stage in steps.begin:
                self._begin(stage, calls)
            for name, reason in steps.pass_over.items():
                log.info("stage.not_taken", job_id=self._job_id, stage=name, reason=reason)
                self.reports[name] = StageReport(
                    service=self._graph.stage(name).service,
                    status=StageStatus.NOT_TAKEN,
                    reason=reason,
                )
            if not steps.pass_over:
                return bool(self._under_way) and not self._is_over()
        return False

    def _is_over(self) -> bool:
        return any(report.status in CHAIN_ENDS for report in self.reports.values())

    def _begin(self, stage: Stage, calls: StageCalls) -> None:
        answers = {n: r.output for n, r in self.reports.items() if r.status in WENT_WELL}
        repeated = self._repeated[stage.name]
        try:
            request = stage_request(self._graph, stage, self._request, answers, repeated)
        except MappingError as error:
            self.reports[stage.name] = self._unmapped(stage, error)
            return
        work = calls.perform(stage, request, self._numbers[stage.name])
        self._under_way[asyncio.create_task(work, name=stage.name)] = stage.name

    def _ended(self, name: str, report: StageReport) -> None:
        self.reports[name] = report
        for first in {repeat.first for repeat in self._graph.repeats if repeat.last == name}:
            repeat = due_repeat(self._graph, self.reports, name, self._repeated[first])
            if repeat is not None:
                self._repeated[first] += 1
                log.info("stages.repeated", job_id=self._job_id, first=first, last=name)
                for each in self._graph.between(first, name):
                    self.superseded.append(self.reports.pop(each))

    def _unmapped(self, stage: Stage, error: MappingError) -> StageReport:
        is_callers = isinstance(error, RefusedParameter)
        code = FailureCode.INVALID_REQUEST if is_callers else FailureCode.GENERATION_FAILED
        problem = Problem.of(code, str(error), job_id=self._job_id, retryable=False)
        return StageReport(service=stage.service, status=StageStatus.FAILED, error=problem)
