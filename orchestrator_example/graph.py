"""A mega-service as a graph of stages. Pure: what runs after what, and no I/O.

The verbs are OPEA's (`ServiceOrchestrator.add`, `flow_to`, and the `mega_flow` of its YAML, in
`comps/cores/mega` of OPEA GenAIComps). A graph is a value: each verb returns a new one, so that two
graphs in one process never see each other. A flow that would close a circle is refused.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class GraphError(ValueError):
    """The graph cannot be as asked for; the message says why."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A vertex: `name` is its own in the graph, `service` the one whose queue does the work."""

    name: str
    service: str

    def __post_init__(self) -> None:
        for value in (self.name, self.service):
            if not _NAME.fullmatch(value):
                raise GraphError(f"{value!r} is no name: letters, digits, _ . - are")


@dataclass(frozen=True, slots=True)
class ServiceGraph:
    """Stages, and flows from one to the next; without a circle."""

    stages: tuple[Stage, ...] = ()
    flows: tuple[tuple[str, str], ...] = ()

    def add(self, stage: Stage) -> "ServiceGraph":
        """Add a stage. Raises GraphError when its name is taken."""
        if any(each.name == stage.name for each in self.stages):
            raise GraphError(
                f"there is a stage {stage.name!r} already; names are unique in a graph"
            )
        return replace(self, stages=(*self.stages, stage))

    def flow_to(self, before: str, after: str) -> "ServiceGraph":
        """Let a stage wait for another one. Raises GraphError for a circle or an unknown name."""
        for name in (before, after):
            self.stage(name)
        if (before, after) in self.flows:
            return self
        graph = replace(self, flows=(*self.flows, (before, after)))
        graph.order()
        return graph

    def follow(self, mega_flow: Iterable[str]) -> "ServiceGraph":
        """Add flows as OPEA's YAML writes them: `"(a, b) >> c >> d"`. Raises GraphError."""
        graph = self
        for line in mega_flow:
            groups = [_names(part, line) for part in line.split(">>")]
            for befores, afters in pairwise(groups):
                for before in befores:
                    for after in afters:
                        graph = graph.flow_to(before, after)
        return graph

    def stage(self, name: str) -> Stage:
        """Find a stage. Raises GraphError."""
        for each in self.stages:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.stages) or "none"
        raise GraphError(f"no stage {name!r}; there are: {known}")

    def before(self, name: str) -> tuple[str, ...]:
        """Name the stages that flow into this one, in the order in which that was said."""
        return tuple(source for source, target in self.flows if target == name)

    def after(self, name: str) -> tuple[str, ...]:
        """Name the stages that this one flows into."""
        return tuple(target for source, target in self.flows if source == name)

    def startable(self, ended: Iterable[str], begun: Iterable[str] = ()) -> list[Stage]:
        """List the stages whose every predecessor has ended; they may run in parallel."""
        over, under_way = set(ended), set(begun)
        return [
            stage
            for stage in self.stages
            if stage.name not in over | under_way and over.issuperset(self.before(stage.name))
        ]

    def last(self) -> list[Stage]:
        """List the stages that nothing waits for: what they give is what the graph gives."""
        return [stage for stage in self.stages if not self.after(stage.name)]

    def order(self) -> list[str]:
        """Sort the stages so that each comes after its predecessors. Raises GraphError."""
        sorter = TopologicalSorter({stage.name: self.before(stage.name) for stage in self.stages})
        try:
            return list(sorter.static_order())
        except CycleError as error:
            circle: Sequence[str] = error.args[1]
            raise GraphError(f"a circle: {' >> '.join(reversed(circle))}") from error


def _names(part: str, line: str) -> list[str]:
    text = part.strip()
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    names = [name.strip() for name in text.split(",")]
    if not all(_NAME.fullmatch(name) for name in names):
        raise GraphError(f"{line!r} is no flow; write one as '(a, b) >> c >> d'")
    return names
