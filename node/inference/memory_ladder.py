"""From plan to plan until a picture fits into memory, and from where to start the next time.

What ran out of memory is remembered by model, plan and number of pixels, for an hour. So long, a
request of at least as many pixels does not try that plan again. Then the better plan gets another
chance: a lasting lack of memory costs one vain attempt an hour, and one that was another program's
costs an hour of slower or less exact pictures.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import structlog

from node.errors import OutOfMemory
from node.inference.memory_plan import PLAIN, Measure, MemoryPlan, Phase, next_plan

REMEMBERED_SECONDS: Final = 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides how much memory an image takes."""

    model: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """The area: activations grow with it, whatever the sides."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class _Failure:
    pixels: int
    phase: Phase | None
    forgotten_at: float


class MemoryLadder:
    """Used by the inference thread alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # The smallest image that failed, by model and plan: it speaks for all larger ones.
        self._failures: dict[tuple[str, MemoryPlan], _Failure] = {}

    def climb(
        self,
        shape: Shape,
        usable: Collection[Measure],
        attempt: Callable[[MemoryPlan], None],
        phase: Callable[[], Phase | None],
    ) -> MemoryPlan:
        """Attempt with one plan after the other until one fits, and return that one.

        `phase` tells where an attempt failed. Raises OutOfMemory where no plan is left, and
        whatever else an attempt raises.
        """
        plan = self.first_plan(shape, usable)
        while True:
            try:
                attempt(plan)
            except OutOfMemory:
                cheaper = self._after(shape, plan, phase(), usable)
                if cheaper is None:
                    raise
                plan = cheaper
            else:
                return plan

    def first_plan(self, shape: Shape, usable: Collection[Measure]) -> MemoryPlan:
        """Choose where to start: the first plan that is not known to fail, else the last one."""
        plan = PLAIN
        while (failure := self._known(shape, plan)) is not None:
            cheaper = next_plan(plan, failure.phase, usable)
            if cheaper is None:
                break
            plan = cheaper
        return plan

    def _after(
        self, shape: Shape, plan: MemoryPlan, phase: Phase | None, usable: Collection[Measure]
    ) -> MemoryPlan | None:
        if self._known(shape, plan) is None:
            forgotten_at = self._clock() + REMEMBERED_SECONDS
            self._failures[shape.model, plan] = _Failure(shape.pixels, phase, forgotten_at)
        cheaper = next_plan(plan, phase, usable)
        log.warning(
            "memory.plan_changed" if cheaper else "memory.plans_exhausted",
            model=shape.model,
            width=shape.width,
            height=shape.height,
            phase=phase and phase.value,
            from_plan=str(plan),
            to_plan=cheaper and str(cheaper),
        )
        return cheaper

    def _known(self, shape: Shape, plan: MemoryPlan) -> _Failure | None:
        """Find a failure that tells that this plan does not fit either."""
        failure = self._failures.get((shape.model, plan))
        if failure is None or failure.pixels > shape.pixels:
            return None
        return failure if self._clock() < failure.forgotten_at else None
