"""A mega-service as a graph of stages. Pure: what runs after what, and no I/O.

The verbs are OPEA's (`ServiceOrchestrator.add`, `flow_to`, and the `mega_flow` of its YAML, in
`comps/cores/mega` of OPEA GenAIComps). A graph is a value: each verb returns a new one, so that two
graphs in one process never see each other. A flow that would close a circle is refused.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from itertools import chain, pairwise, product
from typing import Any, Final

from orchestrator_example.kinds import KINDS, Kinds
from orchestrator_example.policy import Policy

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")

Document = Mapping[str, Any]
Condition = Document | Callable[[Document], bool]
"""About what a stage answered: fields (by path) with the value that each must have, or a call."""
Build = Callable[[Document, Mapping[str, Document]], Mapping[str, Any]]
"""Makes fields of a stage's request from the caller's request and the answers, by stage."""


class GraphError(ValueError):
    """The graph cannot be as asked for; the message says why."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A vertex: `name` is its own in the graph, `service` the one whose queue does the work.

    Its request is made of `parameters` (the graph's own defaults), over these of the caller's
    parameters for this stage, of what flows in, and of what `build` makes.
    `kinds` says which fields stand for text and image, where the service is not a known one.
    """

    name: str
    service: str = ""
    parameters: Document = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    kinds: Kinds = field(default_factory=Kinds)
    build: Build | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "service", self.service or self.name)
        for value in (self.name, self.service):
            if not _NAME.fullmatch(value):
                raise GraphError(f"{value!r} is no name: letters, digits, _ . - are, at most 64")
        if self.kinds == Kinds():
            object.__setattr__(self, "kinds", KINDS.get(self.service, Kinds()))


@dataclass(frozen=True, slots=True)
class Flow:
    """An edge. `mapping` gives a field of the request after it the path in the answer before it.

    A field that ends in `[]` collects what several flows bring, in the order of the flows. With
    `when`, the flow is taken only if the answer before it is so.
    """

    before: str
    after: str
    mapping: Mapping[str, str]
    when: Condition | None = None


@dataclass(frozen=True, slots=True)
class Repeat:
    """Run the stages from `first` to `last` again, until the answer of `last` is as wanted.

    Each time, `vary` is added to those whole numbers that the request of `first` gives itself.
    """

    first: str
    last: str
    until: Condition
    times: int = 1
    vary: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServiceGraph:
    """Stages, and flows from one to the next; without a circle."""

    stages: tuple[Stage, ...] = ()
    flows: tuple[Flow, ...] = ()
    repeats: tuple[Repeat, ...] = ()

    def add(self, stage: Stage) -> "ServiceGraph":
        """Add a stage. Raises GraphError when its name is taken.

        Ids of jobs have no dots: names must differ in more than a dot for a hyphen.
        """
        for each in self.stages:
            if each.name.replace(".", "-") == stage.name.replace(".", "-"):
                raise GraphError(
                    f"there is a stage {each.name!r} already; {stage.name!r} needs another name"
                )
        return replace(self, stages=(*self.stages, stage))

    def flow_to(
        self,
        before: str,
        after: str,
        mapping: Mapping[str, str] | None = None,
        when: Condition | None = None,
    ) -> "ServiceGraph":
        """Let a stage wait for another one, and take fields of its request from it.

        Without a mapping, text goes to text and image to image; an empty one only waits.
        Raises GraphError for a circle, an unknown name, or a field that two flows bring.
        """
        flow = Flow(before, after, self._mapping(before, after, mapping), when)
        if flow in self.flows:
            return self
        if any((each.before, each.after) == (before, after) for each in self.flows):
            raise GraphError(f"{before!r} flows to {after!r} already, and otherwise")
        self._refuse_two_sources(flow)
        graph = replace(self, flows=(*self.flows, flow))
        graph.order()
        graph._refuse_leaks()
        return graph

    def follow(
        self,
        mega_flow: Iterable[str],
        mapping: Mapping[str, str] | None = None,
        when: Condition | None = None,
    ) -> "ServiceGraph":
        """Add flows as OPEA's YAML writes them: `"(a, b) >> c >> d"`. Raises GraphError.

        A mapping or condition is that of each of them; without, those that are there stay.
        """
        graph = self
        for line in mega_flow:
            groups = [_names(part, line) for part in line.split(">>")]
            for name in chain.from_iterable(groups):
                self.stage(name)
            for befores, afters in pairwise(groups):
                for before in befores:
                    for after in afters:
                        is_said = mapping is not None or when is not None
                        if is_said or after not in graph.after(before):
                            graph = graph.flow_to(before, after, mapping, when)
        return graph

    def repeat(
        self,
        first: str,
        last: str,
        until: Condition,
        *,
        times: int = 1,
        vary: Mapping[str, int] | None = None,
    ) -> "ServiceGraph":
        """Repeat a part of the graph until an answer is as wanted, or `times` are over.

        Raises GraphError when other stages would have gone on with what is made again.
        """
        if not self.between(self.stage(first).name, self.stage(last).name):
            raise GraphError(f"no flow leads from {first!r} to {last!r}: nothing to repeat")
        if times < 1:
            raise GraphError(f"{first!r} to {last!r} repeated {times} times: 1 at least")
        repeat = Repeat(first, last, until, times, vary or {})
        graph = replace(self, repeats=(*self.repeats, repeat))
        graph._refuse_leaks()
        return graph

    def stage(self, name: str) -> Stage:
        """Find a stage. Raises GraphError."""
        for each in self.stages:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.stages) or "none"
        raise GraphError(f"no stage {name!r}; there are: {known}")

    def flows_into(self, name: str) -> tuple[Flow, ...]:
        """List the flows into a stage, in the order in which they were added."""
        return tuple(flow for flow in self.flows if flow.after == name)

    def before(self, name: str) -> tuple[str, ...]:
        """Name the stages that flow into this one, in the order in which that was said."""
        return tuple(flow.before for flow in self.flows if flow.after == name)

    def after(self, name: str) -> tuple[str, ...]:
        """Name the stages that this one flows into."""
        return tuple(flow.after for flow in self.flows if flow.before == name)

    def below(self, name: str) -> set[str]:
        """Name every stage that comes after this one, near or far."""
        found: set[str] = set()
        level = set(self.after(name))
        while level:
            found |= level
            level = {after for each in level for after in self.after(each)} - found
        return found

    def between(self, first: str, last: str) -> set[str]:
        """Name the stages on all ways from one to another, both included; none without a way."""
        inside = {first} | self.below(first)
        return (
            {name for name in inside if name == last or last in self.below(name)}
            if (last in inside)
            else set()
        )

    def startable(self, ended: Iterable[str], begun: Iterable[str] = ()) -> list[Stage]:
        """List the stages whose every predecessor has ended; they may run in parallel."""
        over, under_way = set(ended), set(begun)
        return [
            stage
            for stage in self.stages
            if stage.name not in over | under_way and over.issuperset(self.before(stage.name))
        ]

    def services(self) -> list[str]:
        """Name every service that the stages need, fallbacks included."""
        named = [(stage.service, stage.policy.fallback) for stage in self.stages]
        return sorted({service for pair in named for service in pair if service})

    def needed(self) -> frozenset[str]:
        """Name the services that every request needs: no condition or policy goes round them."""
        sure: set[str] = set()
        for name in self.order():
            flows = self.flows_into(name)
            if all(flow.when is None and flow.before in sure for flow in flows):
                sure.add(name)
        return frozenset(
            stage.service
            for stage in self.stages
            if stage.name in sure and stage.policy.ends_the_chain
        )

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

    def _mapping(
        self, before: str, after: str, mapping: Mapping[str, str] | None
    ) -> Mapping[str, str]:
        giver, taker = self.stage(before), self.stage(after)
        if mapping is not None:
            return mapping
        usual = taker.kinds.taken_from(giver.kinds)
        if not usual and taker.build is None:
            raise GraphError(
                f"what of {before!r} goes to {after!r}? say it with a mapping, "
                f'{{"field": "path"}}; {{}} only waits'
            )
        return usual

    def _refuse_leaks(self) -> None:
        """Raise GraphError where a stage would go on with what is made again."""
        repeated: set[str] = set()
        for repeat in self.repeats:
            inside = self.between(repeat.first, repeat.last)
            for name in sorted(inside - {repeat.last}):
                if outside := set(self.after(name)) - inside:
                    raise GraphError(
                        f"{name!r} is repeated, but flows to {min(outside)!r} as well; "
                        f"let {repeat.last!r} flow there"
                    )
            if repeated & inside:
                raise GraphError(f"{min(repeated & inside)!r} is in two repeats; one is possible")
            repeated |= inside

    def _refuse_two_sources(self, flow: Flow) -> None:
        for other in self.flows_into(flow.after):
            for name, same in product(flow.mapping, other.mapping):
                field_name = name.removesuffix("[]")
                is_same = field_name == same.removesuffix("[]")
                if is_same and not (name.endswith("[]") and same.endswith("[]")):
                    raise GraphError(
                        f"{flow.before!r} and {other.before!r} both give {field_name!r} of "
                        f"{flow.after!r}; give each a field, or collect them in "
                        f"{field_name + '[]'!r}"
                    )


def _names(part: str, line: str) -> list[str]:
    text = part.strip()
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    names = [name.strip() for name in text.split(",")]
    if not all(_NAME.fullmatch(name) for name in names):
        raise GraphError(f"{line!r} is no flow; write one as '(a, b) >> c >> d'")
    return names
