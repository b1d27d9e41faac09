"""Could a live instance do a request, and if not, why? Pure; routing never depends on it.

Knows requests by the fields that they share with Text2ImageRequest; what a service does not have,
or its instances do not announce, is not judged.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from contracts.discovery import ModelInfo, ModelLimits, NodeState
from contracts.message import Message
from node.discovery.table import ServiceEntry

MAX_NAMED: Final = 5
"""So many instances or names are listed; a fleet may have hundreds."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request could be done now. The reasons say why not, or what it waits for."""

    possible: bool
    reasons: tuple[str, ...] = ()


def can_serve(entries: Iterable[ServiceEntry], service: str, request: Message) -> Verdict:
    """Judge a request by what live instances announce."""
    entries = list(entries)
    instances = [entry for entry in entries if entry.name == service]
    if not instances:
        return _no(_nobody(entries, service))
    takers = [e for e in instances if e.metadata.state in (NodeState.READY, NodeState.STARTING)]
    if not takers:
        return _no(f"no instance of {service} takes work: {_listed(map(_state, instances))}")
    offers = [(entry, model) for entry in takers for model in _models(entry, request)]
    if not offers and any(entry.metadata.models for entry in takers):
        return _no(_not_offered(takers, service, request))
    judged = [(entry, _objections(model, request)) for entry, model in offers]
    # Instances that announce no models put no bounds on requests.
    judged += [(entry, {}) for entry in takers if not entry.metadata.models]
    able = [entry for entry, objections in judged if not objections]
    if not able:
        return Verdict(False, _why_nobody(judged))
    if any(entry.metadata.state is NodeState.READY for entry in able):
        return Verdict(True)
    return Verdict(True, (f"it waits until one is ready: {_listed(map(_state, able))}",))


def _no(reason: str) -> Verdict:
    return Verdict(False, (reason,))


def _nobody(entries: Sequence[ServiceEntry], service: str) -> str:
    others = sorted({entry.name for entry in entries})
    there = f"there are: {_listed(others)}" if others else "nor is any other service"
    return f"no instance of {service} is there; {there}"


def _state(entry: ServiceEntry) -> str:
    about = entry.metadata
    why = f" ({about.state_reason})" if about.state_reason else ""
    return f"{entry.instance_id} is {about.state.value}{why}"


def _models(entry: ServiceEntry, request: Message) -> list[ModelInfo]:
    """List the models of an instance that the request may get: one, or none."""
    models, wanted = entry.metadata.models, getattr(request, "model", None)
    if wanted is not None:
        return [model for model in models if model.id == wanted]
    return [model for model in models if model.default] or models[:1]


def _not_offered(takers: Sequence[ServiceEntry], service: str, request: Message) -> str:
    offered = sorted({model.id for entry in takers for model in entry.metadata.models})
    wanted = getattr(request, "model", None)
    return f"model: no instance of {service} offers {wanted!r}; offered are: {_listed(offered)}"


def _why_nobody(judged: Sequence[tuple[ServiceEntry, Mapping[str, str]]]) -> tuple[str, ...]:
    """Say what no instance can do; if each one can do a part, what each one cannot."""
    everywhere = [f for f in judged[0][1] if all(f in objections for _, objections in judged)]
    if everywhere:
        texts = [dict.fromkeys(objections[f] for _, objections in judged) for f in everywhere]
        return tuple(f"{f}: {_listed(each)}" for f, each in zip(everywhere, texts, strict=True))
    return (
        "no single instance can do all of it",
        *(
            f"{entry.instance_id}: " + "; ".join(f"{f}: {text}" for f, text in objections.items())
            for entry, objections in judged[:MAX_NAMED]
        ),
    )


def _objections(model: ModelInfo, request: Message) -> dict[str, str]:
    """Say by field what a model refuses."""
    limits = model.limits
    checks: dict[str, Callable[[Any], str]] = {
        "width": lambda value: _size(value, limits),
        "height": lambda value: _size(value, limits),
        "num_images_per_prompt": lambda value: _most(value, limits.max_images),
        "num_inference_steps": lambda value: _most(value, limits.max_inference_steps),
        "prompt": lambda value: _length(value, limits.max_prompt_chars),
        "negative_prompt": lambda value: _length(value, limits.max_prompt_chars),
        # Before a model is loaded nobody knows its schedulers, and none are announced.
        "scheduler": lambda value: _among([value], model.schedulers or [value], model.id),
        "loras": lambda value: _among([lora.name for lora in value], model.loras, model.id),
    }
    given = {field: getattr(request, field, None) for field in checks}
    found = {f: checks[f](value) for f, value in given.items() if value is not None}
    return {field: text for field, text in found.items() if text}


def _size(pixels: int, limits: ModelLimits) -> str:
    if not limits.min_pixels <= pixels <= limits.max_pixels:
        return f"{pixels} is outside of {limits.min_pixels}..{limits.max_pixels}"
    if pixels % limits.size_granularity:
        return f"{pixels} is not a multiple of {limits.size_granularity}"
    return ""


def _most(count: int, most: int) -> str:
    return f"{count} is more than {most}" if count > most else ""


def _length(text: str, most: int) -> str:
    return f"{len(text)} characters are more than {most}" if len(text) > most else ""


def _among(wanted: Sequence[str], offered: Sequence[str], model_id: str) -> str:
    unknown = [name for name in wanted if name not in offered]
    if not unknown:
        return ""
    there = f"but {_listed(offered)}" if offered else "and none at all"
    return f"{model_id} has no {_listed(unknown)}, {there}"


def _listed(names: Iterable[str]) -> str:
    """List the first few."""
    names = list(names)
    more = [f"{len(names) - MAX_NAMED} more"] if len(names) > MAX_NAMED else []
    return ", ".join([*names[:MAX_NAMED], *more])
