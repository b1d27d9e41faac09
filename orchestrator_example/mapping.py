"""From the caller's request and the answers so far to the request of a stage. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from contracts.message import MAX_SEED
from orchestrator_example.graph import Condition, Document, Flow, ServiceGraph, Stage

TEXT: Final = "text"


class MappingError(ValueError):
    """A flow needs what is not there."""


class RefusedParameter(MappingError):
    """The caller gives a field that the graph makes itself."""


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
    try:
        if callable(condition):
            return bool(condition(answer))
        return all(look_up(answer, path) == wanted for path, wanted in condition.items())
    except (LookupError, TypeError, ValueError, AttributeError):
        return False


def stage_request(
    graph: ServiceGraph,
    stage: Stage,
    request: Document,
    answers: Mapping[str, Document],
    repeated: int = 0,
) -> dict[str, Any]:
    """Make the request of a stage; text that nothing else brings is the caller's prompt.

    `answers` are those of the stages that ended well. Raises MappingError.
    """
    # What ended by chance before must not matter: another orchestrator makes the same request.
    # Nor must the order in which they ended.
    before = [name for name in graph.order() if stage.name in graph.below(name)]
    answers = {name: answers[name] for name in before if name in answers}
    given = request.get("parameters", {}).get(stage.name, {})
    fields = _varied(graph, stage, {**stage.parameters, **given}, repeated)
    for flow in graph.flows_into(stage.name):
        if flow.before in answers and holds(flow.when, answers[flow.before]):
            for name, value in _brought(flow, answers[flow.before]):
                _put(fields, name, value)
    wanted = stage.kinds.takes.get(TEXT)
    if wanted is not None and wanted.removesuffix("[]") not in fields and "prompt" in request:
        _put(fields, wanted, request["prompt"])
    built = _built(stage, request, answers)
    if overruled := sorted(built.keys() & given.keys()):
        raise RefusedParameter(
            f"parameters: {overruled[0]!r} of stage {stage.name!r} is made by the graph"
        )
    return {**fields, **built}


def _brought(flow: Flow, answer: Document) -> Iterator[tuple[str, Any]]:
    for name, path in flow.mapping.items():
        try:
            yield name, look_up(answer, path)
        except MappingError as error:
            raise MappingError(
                f"{flow.before!r} gives {flow.after!r} its {name!r}, but {error}"
            ) from error


def _put(fields: dict[str, Any], name: str, value: Any) -> None:
    if name.endswith("[]"):
        there = fields.get(name[:-2])
        # A new list: what is there may be the graph's own.
        fields[name[:-2]] = [*there, value] if isinstance(there, list) else [value]
    else:
        fields[name] = value


def _built(stage: Stage, request: Document, answers: Mapping[str, Document]) -> Mapping[str, Any]:
    if stage.build is None:
        return {}
    try:
        return dict(stage.build(request, answers))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise MappingError(f"the request of {stage.name!r} cannot be built: {error!r}") from error


def fixed_fields(graph: ServiceGraph, stage: Stage) -> set[str]:
    """Name the fields that a caller cannot set: what flows in, and what its prompt is for."""
    names = [name for flow in graph.flows_into(stage.name) for name in flow.mapping]
    if TEXT in stage.kinds.takes:
        names.append(stage.kinds.takes[TEXT])
    return {name.removesuffix("[]") for name in names}


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
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    # After the largest seed comes 0. What is no seed is not made one.
    wraps = value <= MAX_SEED < value + number
    return value + number - (MAX_SEED + 1 if wraps else 0)
