"""From the caller's request and the answers so far to the request of a stage. Pure."""

from collections.abc import Mapping
from typing import Any

from orchestrator_example.graph import Condition, Document, ServiceGraph, Stage

TEXT = "text"


class MappingError(ValueError):
    """A flow needs what is not there."""


def look_up(document: Any, path: str) -> Any:
    """Follow a path such as `images.0.sha256`. Raises MappingError."""
    found = document
    for step in path.split("."):
        if isinstance(found, Mapping) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            raise MappingError(f"there is no {path!r}")
    return found


def holds(condition: Condition | None, answer: Document) -> bool:
    """Say whether an answer is as wanted; a field that it lacks is not."""
    if condition is None:
        return True
    if callable(condition):
        return condition(answer)
    try:
        return all(look_up(answer, path) == wanted for path, wanted in condition.items())
    except MappingError:
        return False


def stage_request(
    graph: ServiceGraph,
    stage: Stage,
    request: Document,
    answers: Mapping[str, Document],
    repeated: int = 0,
) -> dict[str, Any]:
    """Make the request of a stage; text that no flow brings is the caller's prompt.

    `answers` are those of the stages that ended well. Raises MappingError.
    """
    given = request.get("parameters", {}).get(stage.name, {})
    fields = _varied(graph, stage, {**stage.parameters, **given}, repeated)
    if TEXT in stage.kinds.takes and "prompt" in request:
        fields[stage.kinds.takes[TEXT]] = request["prompt"]
    for flow in graph.flows_into(stage.name):
        if flow.before not in answers:
            continue
        for name, path in flow.mapping.items():
            try:
                value = look_up(answers[flow.before], path)
            except MappingError as error:
                raise MappingError(
                    f"{flow.before!r} gives {stage.name!r} its {name!r}, but {error}"
                ) from error
            if name.endswith("[]"):
                fields.setdefault(name[:-2], []).append(value)
            else:
                fields[name] = value
    if stage.build is not None:
        fields |= stage.build(request, answers)
    return fields


def fixed_fields(graph: ServiceGraph, stage: Stage) -> set[str]:
    """Name the fields that a caller cannot set, because they flow in."""
    return {
        name.removesuffix("[]") for flow in graph.flows_into(stage.name) for name in flow.mapping
    }


def _varied(
    graph: ServiceGraph, stage: Stage, fields: dict[str, Any], repeated: int
) -> dict[str, Any]:
    for repeat in graph.repeats:
        if repeat.first == stage.name:
            for name, step in repeat.vary.items():
                if name in fields:
                    fields[name] = _added(fields[name], step * repeated)
    return fields


def _added(value: Any, number: int) -> Any:
    if isinstance(value, list):
        return [_added(each, number) for each in value]
    return value + number if isinstance(value, int) and not isinstance(value, bool) else value
