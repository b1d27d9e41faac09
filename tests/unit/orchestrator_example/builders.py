"""Small graphs and reports that many tests of the mega-service begin with."""

from typing import Any

from contracts.failure import FailureCode, Problem
from contracts.megaservice import StageReport, StageStatus
from orchestrator_example.graph import ServiceGraph, Stage
from orchestrator_example.kinds import Kinds

TEXT = Kinds({"text": "text"}, {"text": "text"})


def stage(name: str, **given: Any) -> Stage:
    return Stage(name, f"service-{name}", **{"kinds": TEXT} | given)


def graph(*stages: str | Stage, flow: str | tuple[str, ...] = ()) -> ServiceGraph:
    made = ServiceGraph()
    for each in stages:
        made = made.add(stage(each) if isinstance(each, str) else each)
    return made.follow([flow] if isinstance(flow, str) else flow)


def report(
    status: StageStatus = StageStatus.SUCCEEDED, error: Problem | None = None, **output: Any
) -> StageReport:
    return StageReport(service="any", status=status, output=output, error=error)


def failed(code: FailureCode = FailureCode.GENERATION_FAILED, detail: str = "no") -> StageReport:
    problem = Problem.of(code, detail, job_id="j", retryable=False)
    return report(StageStatus.FAILED, problem)
