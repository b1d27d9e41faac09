"""What a chain does next, and how it ends, given what its stages did. Pure."""

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Final

from contracts.failure import FailureCode, Problem
from contracts.megaservice import StageReport, StageStatus
from contracts.result import Status
from orchestrator_example.graph import Flow, Repeat, ServiceGraph, Stage
from orchestrator_example.mapping import holds

WENT_WELL: Final = frozenset({StageStatus.SUCCEEDED, StageStatus.SUBSTITUTED})
CHAIN_ENDS: Final[Mapping[StageStatus, Status]] = {
    StageStatus.CANCELLED: Status.CANCELLED,
    StageStatus.EXPIRED: Status.EXPIRED,
    StageStatus.FAILED: Status.FAILED,
}

# What a node says of itself with these codes, a chain must not say of its orchestrator.
_OTHERS_FAULTS: Final = frozenset({FailureCode.INTERNAL, FailureCode.OUT_OF_MEMORY})

BLACK_LIST: Final = "downstream_black_list"
"""Field of an answer, as OPEA's guardrails write it: patterns of stages that must not follow."""

MAX_PATTERNS: Final = 64
# With groups or many repetitions, one pattern can keep a process busy for hours; 64 of three
# repetitions each take a second at every look, of two each 30 ms.
_SIMPLE: Final = re.compile(r"[\w.|^$-]{0,128}(?:\*[\w.|^$-]{0,128}){0,2}")

Reports = Mapping[str, StageReport]


@dataclass(frozen=True, slots=True)
class NextSteps:
    """Stages to begin now, and stages that no flow leads to, each with the reason."""

    begin: list[Stage]
    pass_over: dict[str, str]


def next_steps(graph: ServiceGraph, reports: Reports, begun: Set[str]) -> NextSteps:
    """Decide about every stage whose predecessors have ended.

    One flow that is taken is enough to begin a stage; one black list of a stage before it, near
    or far, is enough to forbid it.
    """
    steps = NextSteps([], {})
    for stage in graph.startable(reports, begun):
        bans = [f"{name} black-lists {stage.name}" for name in _banning(graph, reports, stage)]
        flows = graph.flows_into(stage.name)
        obstacles = [obstacle(flow, reports[flow.before]) for flow in flows]
        if not bans and (not obstacles or None in obstacles):
            steps.begin.append(stage)
        else:
            reasons = [*bans, *filter(None, obstacles)]
            steps.pass_over[stage.name] = "; ".join(reasons)
    return steps


def _banning(graph: ServiceGraph, reports: Reports, stage: Stage) -> list[str]:
    return [
        name
        for name in graph.order()
        if stage.name in graph.below(name)
        and name in reports
        and is_black_listed(stage, reports[name].output)
    ]


def obstacle(flow: Flow, before: StageReport) -> str | None:
    """Say why a flow is not taken; None when it is."""
    if before.status is StageStatus.SKIPPED and flow.when is None:
        return None
    if before.status not in WENT_WELL:
        return f"{flow.before} was {before.status.value.replace('_', ' ')}"
    if not holds(flow.when, before.output):
        return f"the condition after {flow.before} does not hold"
    return None


def is_black_listed(stage: Stage, answer: Mapping[str, Any]) -> bool:
    """Say whether an answer forbids a stage that follows; an unreadable list forbids all."""
    patterns = answer.get(BLACK_LIST) or []
    patterns = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(patterns, list) or len(patterns) > MAX_PATTERNS:
        return True
    try:
        return any(
            not _SIMPLE.fullmatch(pattern) or re.search(pattern, name)
            for pattern in patterns
            for name in (stage.name, stage.service)
        )
    except (re.error, TypeError):
        return True


def due_repeat(graph: ServiceGraph, reports: Reports, ended: str, done: int) -> Repeat | None:
    """Say what to run again, now that a stage has ended; `done` times it was repeated before."""
    report = reports[ended]
    for repeat in graph.repeats:
        if repeat.last == ended and report.status in WENT_WELL and done < repeat.times:
            return None if holds(repeat.until, report.output) else repeat
    return None


def unmet(graph: ServiceGraph, reports: Reports) -> list[str]:
    """Say in words which repeats ended without the answer that was wanted."""
    return [
        f"{repeat.last}: still not as wanted after {repeat.times + 1} times; the last one stands"
        for repeat in graph.repeats
        if (report := reports.get(repeat.last)) is not None
        and report.status in WENT_WELL
        and not holds(repeat.until, report.output)
    ]


def end_of(graph: ServiceGraph, reports: Reports, job_id: str) -> tuple[Status, Problem | None]:
    """Say how a chain ended whose stages have all ended, or one of them for all."""
    for stage_status, status in CHAIN_ENDS.items():
        for name, report in reports.items():
            # One with a reason was stopped by the end of another.
            if report.status is stage_status and report.reason is None:
                return status, _problem_of(name, report, job_id)
    ends = [reports[stage.name] for stage in graph.last() if stage.name in reports]
    if all(report.status is StageStatus.NOT_TAKEN for report in ends):
        for name, report in reports.items():
            if any(is_black_listed(graph.stage(each), report.output) for each in graph.below(name)):
                detail = f"stage {name!r} lets nothing pass: {report.output.get('text', '')}"
                return Status.FAILED, _problem(FailureCode.SAFETY_REFUSED, detail[:2000], job_id)
    return Status.SUCCEEDED, None


def _problem_of(name: str, report: StageReport, job_id: str) -> Problem:
    error = report.error
    if error is None:
        return _problem(FailureCode.GENERATION_FAILED, f"stage {name!r} failed", job_id)
    code = FailureCode.ATTEMPTS_EXHAUSTED if error.code in _OTHERS_FAULTS else error.code
    return _problem(code, f"stage {name!r}: {error.detail}", job_id, retryable=error.retryable)


def _problem(code: FailureCode, detail: str, job_id: str, *, retryable: bool = False) -> Problem:
    return Problem.of(code, detail, job_id=job_id, retryable=retryable)
