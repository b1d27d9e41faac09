"""From the reports of a chain's stages to the one result of its caller. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from contracts.megaservice import MegaServiceResult, StageReport
from contracts.text2image import GeneratedImage
from node.egress.artifacts import PICTURES
from orchestrator_example.graph import ServiceGraph
from orchestrator_example.planning import WENT_WELL, end_of, unmet

_IMAGES: TypeAdapter[list[GeneratedImage]] = TypeAdapter(list[GeneratedImage])


def chain_result(
    graph: ServiceGraph,
    reports: Mapping[str, StageReport],
    job_id: str,
    metadata: dict[str, str],
    chosen: Sequence[str] | None = None,
    superseded: Sequence[StageReport] = (),
) -> MegaServiceResult:
    """Say how a chain ended. `chosen` are the stages whose pictures the chain ends with.

    Unless it is given: the last ones of their branches that made pictures. Other pictures are
    drafts, those of `superseded` reports too.
    """
    status, error = end_of(graph, reports, job_id)
    pictures = {name: made for name, r in reports.items() if (made := images_of(r.output))}
    if chosen is None:
        last = {name for name in pictures if not pictures.keys() & graph.below(name)}
        chosen = [name for name in graph.order() if name in last]
    images = _distinct(image for name in chosen for image in pictures.get(name, ()))
    standing = {name: reports[name] for name in graph.order() if name in reports}
    outputs = [report.output for report in (*superseded, *standing.values())]
    others = _distinct(i for each in outputs for name in PICTURES for i in images_of(each, name))
    return MegaServiceResult(
        job_id=job_id,
        status=status,
        error=error,
        warnings=[*_warnings(standing), *unmet(graph, reports)],
        metadata=metadata,
        stages={name: _without_bytes(report) for name, report in standing.items()},
        images=list(images.values()),
        drafts=[image for sha256, image in others.items() if sha256 not in images],
    )


def _warnings(reports: Mapping[str, StageReport]) -> list[str]:
    return [f"{name}: {each}" for name, report in reports.items() for each in report.warnings]


def answers_of(result: MegaServiceResult) -> dict[str, dict[str, Any]]:
    """Give back what each stage answered, by its name, with the bytes of its pictures."""
    files = {image.sha256: image.b64_json for image in (*result.images, *result.drafts)}
    return {
        name: _with_bytes(report.output, files)
        for name, report in result.stages.items()
        if report.status in WENT_WELL
    }


def images_of(answer: Mapping[str, Any], name: str = "images") -> list[GeneratedImage]:
    """Read the pictures of a stage's answer; what is something else is none."""
    try:
        return _IMAGES.validate_python(answer.get(name, []))
    except ValidationError:
        return []


def _distinct(images: Iterable[GeneratedImage]) -> dict[str, GeneratedImage]:
    return {image.sha256: image for image in images}


def _without_bytes(report: StageReport) -> StageReport:
    return report.model_copy(update={"output": _with_bytes(report.output, {})})


def _with_bytes(output: Mapping[str, Any], files: Mapping[str, str | None]) -> dict[str, Any]:
    pictures = {
        name: [{**image, "b64_json": files.get(image["sha256"])} for image in output[name]]
        for name in PICTURES
        if images_of(output, name)
    }
    return {**output, **pictures}
