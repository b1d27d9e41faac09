"""Share what every training needs: learning rates, optimizers, resumable checkpoints."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.muon import Muon

CHECKPOINT_SECONDS = 180


@dataclass(frozen=True, slots=True)
class Schedule:
    """Warm up linearly, stay, then decay to `final_fraction` over the last `decay_steps`."""

    peak: float
    steps: int
    warmup_steps: int = 100
    decay_steps: int = 0
    final_fraction: float = 0.02

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        left = min(1.0, max(0, self.steps - step) / max(1, self.decay_steps))
        return self.peak * warm * max(left, self.final_fraction)


class Optimizer:
    """Step weights of two or more dimensions with Muon, all others with AdamW."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], adam_only: Iterable[nn.Parameter] = ()
    ) -> None:
        kept = {id(parameter) for parameter in adam_only}
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        matrices = [p for p in trained if p.ndim >= 2 and id(p) not in kept]
        others = [p for p in trained if p.ndim < 2 or id(p) in kept]
        self._parts: tuple[torch.optim.Optimizer, ...] = (
            Muon(matrices, lr=0.0),
            torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.99), weight_decay=0.0),
        )

    def step(self, rate: float, adam_fraction: float = 1.0) -> None:
        """Apply one update; AdamW takes `rate` x `adam_fraction`."""
        for part, fraction in zip(self._parts, (1.0, adam_fraction), strict=True):
            for group in part.param_groups:
                group["lr"] = rate * fraction
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes."""
        return {str(index): part.state_dict() for index, part in enumerate(self._parts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        for index, part in enumerate(self._parts):
            part.load_state_dict(state[str(index)])


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that a reader or a crash never meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return the last checkpoint, or None at the start of a training."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


class Progress:
    """Print one JSON line per interval and say when a checkpoint is due."""

    def __init__(self, every_steps: int) -> None:
        self._every_steps = every_steps
        self._sums: dict[str, float] = {}
        self._count = 0
        self._since = self._saved = time.monotonic()

    def record(self, step: int, **values: float) -> None:
        """Add the values of one step; print their means at the end of an interval."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if (step + 1) % self._every_steps == 0:
            self._print(step)

    def _print(self, step: int) -> None:
        now = time.monotonic()
        means = {name: round(total / self._count, 5) for name, total in self._sums.items()}
        seconds = round((now - self._since) / self._count, 3)
        line = {"step": step + 1, **means, "seconds_per_step": seconds}
        print(json.dumps(line), flush=True)
        self._sums, self._count, self._since = {}, 0, now

    def checkpoint_due(self) -> bool:
        """Return True once every `CHECKPOINT_SECONDS`."""
        if time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return False
        self._saved = time.monotonic()
        return True
