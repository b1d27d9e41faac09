"""What a person sees of a chain: a line for each stage. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from contracts.events import ProgressEvent, StageEvent, TerminalEvent
from contracts.megaservice import MegaServiceResult, StageReport, StageStatus
from contracts.result import Status
from orchestrator_example.answer import images_of

LONGEST_TEXT: Final = 72


def event_text(event: StageEvent) -> str | None:
    """Say what a stage tells, in a few words; None for what is told by others."""
    told = event.stage_event
    again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
    if isinstance(told, ProgressEvent):
        return f"{event.stage}{again}: step {told.step}/{told.num_inference_steps}"
    if isinstance(told, TerminalEvent):
        why = f": {told.error.detail}" if told.error and told.event is not Status.SUCCEEDED else ""
        return f"{event.stage}{again}: {told.event.value}{why}"
    return f"{event.stage}{again}: {told.event}" if told.event == "started" else None


def is_end(event: StageEvent) -> bool:
    """Say whether a stage tells that it has ended."""
    return isinstance(event.stage_event, TerminalEvent)


def report_lines(result: MegaServiceResult) -> Iterator[str]:
    """Say in a line for each stage what became of it."""
    widest = max((len(name) for name in result.stages), default=0)
    for name, report in result.stages.items():
        how = _how(report.status)
        yield f"{name:<{widest}}  {how:<9}  {report.seconds:6.2f} s  {_outcome(report)}".rstrip()


def _how(status: StageStatus) -> str:
    return "ok" if status is StageStatus.SUCCEEDED else status.value.replace("_", " ")


def _outcome(report: StageReport) -> str:
    if report.error is not None and report.status is not StageStatus.SUCCEEDED:
        return report.error.detail
    if report.reason is not None:
        return report.reason
    return ", ".join([*_said(report.output), *_tries(report)])


def _said(output: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(text := output.get("text"), str):
        yield f'"{text}"' if len(text) <= LONGEST_TEXT else f'"{text[: LONGEST_TEXT - 1]}…"'
    for image in images_of(output):
        yield f"{image.width}x{image.height} picture, seed {image.seed}"
    if (matches := output.get("matches")) is not None:
        yield "shows the prompt" if matches else "does not show the prompt"


def _tries(report: StageReport) -> Iterator[str]:
    if report.attempts > 1:
        yield f"{report.attempts} attempts"
