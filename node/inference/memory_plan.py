"""How to make a picture with less memory, and what to try next where it ran out. Pure.

The plain way comes first. Each measure costs something, so a further one is taken only after the
plan before it ran out of memory, and only one that can help there: a picture that failed while it
was denoised is not helped by decoding it in tiles.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from contracts.text2image import Identity

LEAST_TILE_PIXELS: Final = 256
"""Smaller tiles show seams."""
LARGEST_TILE_PIXELS: Final = 512
"""Larger tiles save too little; Diffusers' own for models of 512 pixels."""

_TILE_GRANULARITY: Final = 128
"""A tile and three quarters of it are whole latents for every autoencoder (up to 1:32)."""


class Phase(StrEnum):
    """What a pipeline does with one image, in this order; a picture is not there in most."""

    ENCODE = "encode"
    ENCODE_PICTURE = "encode_picture"
    DENOISE = "denoise"
    DECODE = "decode"


class Measure(StrEnum):
    """A way to need less memory. The values are read by people, in warnings and in the log."""

    ATTENTION_SLICING = "attention slicing"
    VAE_TILING = "VAE tiling"
    MODEL_OFFLOAD = "model offload"
    SEQUENTIAL_OFFLOAD = "sequential offload"


_HELPS: Final = {
    Measure.ATTENTION_SLICING: frozenset({Phase.DENOISE}),
    Measure.VAE_TILING: frozenset({Phase.ENCODE_PICTURE, Phase.DECODE}),
    Measure.MODEL_OFFLOAD: frozenset(Phase),
    Measure.SEQUENTIAL_OFFLOAD: frozenset(Phase),
}
"""Where each measure lowers the peak; the cheapest first."""

_INEXACT: Final = frozenset({Measure.ATTENTION_SLICING, Measure.VAE_TILING})
"""What rounds otherwise than the plain way. Offloaded weights meet the same kernels."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The measures that are taken together; none is the plain way.

    Where images come to share forward passes, the bound on their number belongs here, and halving
    it is what `next_plan` tries first.
    """

    measures: frozenset[Measure] = frozenset()

    @property
    def identity(self) -> Identity:
        """How close its pictures are to those of the plain way."""
        if Measure.VAE_TILING in self.measures:
            return Identity.APPROXIMATE
        return Identity.CLOSE if self.measures & _INEXACT else Identity.EXACT

    @property
    def warnings(self) -> list[str]:
        """What a caller should know of it."""
        if not self.measures:
            return []
        return [f"memory: made with {self}, since the plain way ran out of memory"]

    def __str__(self) -> str:
        return " and ".join(each for each in Measure if each in self.measures) or "the plain way"


PLAIN: Final = MemoryPlan()


def usable_measures(
    available: Collection[Measure], *, strict: bool, width: int, height: int
) -> frozenset[Measure]:
    """Choose from what a model's pipeline has on its device what a request may be made with."""
    useless = _INEXACT if strict else frozenset()
    if max(width, height) <= LEAST_TILE_PIXELS:
        useless |= {Measure.VAE_TILING}
    return frozenset(available) - useless


def next_plan(
    failed: MemoryPlan, phase: Phase | None, usable: Collection[Measure]
) -> MemoryPlan | None:
    """Decide what comes after a plan that ran out of memory; None: nothing is left to try.

    A phase of None is not known, as with pipelines that report no steps.
    """
    for measure, phases in _HELPS.items():
        if measure not in usable or measure in failed.measures:
            continue
        if phase is not None and phase not in phases:
            continue
        if measure is Measure.MODEL_OFFLOAD and Measure.SEQUENTIAL_OFFLOAD in failed.measures:
            continue
        return _with(failed, measure)
    return None


def _with(plan: MemoryPlan, measure: Measure) -> MemoryPlan:
    kept = plan.measures
    if measure is Measure.SEQUENTIAL_OFFLOAD:
        kept -= {Measure.MODEL_OFFLOAD}
    return MemoryPlan(kept | {measure})


def tile_pixels(width: int, height: int) -> int:
    """Choose the side of a tile: about half of the image's, so that a tile needs a quarter."""
    half = max(width, height) // 2
    return min(max(half - half % _TILE_GRANULARITY, LEAST_TILE_PIXELS), LARGEST_TILE_PIXELS)
