"""Keep a model's parameters and optimizer state in flat tensors that processes share.

Matrices step with Muon, everything else with Adam, as `training.loop.Optimizer` does.
"""

import math
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import nn

from training.loop import load_checkpoint, save_atomically
from training.muon import orthogonalised

MOMENTUM = 0.95
BETAS = (0.9, 0.99)
EPSILON = 1e-8


@dataclass(slots=True)
class SharedState:
    """Hold flat float32 tensors in shared memory, all of the model's length n, without gradients.

    `gradients` is (workers, n); worker i alone writes row i, before the first barrier of a step.
    Between the barriers each worker writes only the spans it owns, of the other tensors.
    """

    values: torch.Tensor
    gradients: torch.Tensor
    momentum: torch.Tensor
    second: torch.Tensor
    average: torch.Tensor

    @classmethod
    def of(cls, model: nn.Module, workers: int) -> "SharedState":
        """Copy the model's parameters into a new shared state."""
        flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
        zeros = torch.zeros_like(flat)
        state = cls(flat, zeros.repeat(workers, 1), zeros, zeros.clone(), flat.clone())
        for field in fields(cls):
            getattr(state, field.name).share_memory_()
        return state

    def save(self, path: Path, step: int) -> None:
        """Write everything but the gradients, atomically."""
        names = ("values", "momentum", "second", "average")
        save_atomically({name: getattr(self, name) for name in names} | {"step": step}, path)

    def load(self, path: Path) -> int:
        """Read a checkpoint in place and return its step; 0 when there is none."""
        state = load_checkpoint(path)
        if state is None:
            return 0
        for name in ("values", "momentum", "second", "average"):
            getattr(self, name).copy_(state[name])
        return int(state["step"])


def bind(model: nn.Module, flat: torch.Tensor) -> None:
    """Make the model's parameters views of a flat tensor, in the order of `parameters()`."""
    start = 0
    for parameter in model.parameters():
        stop = start + parameter.numel()
        parameter.data = flat[start:stop].view(parameter.shape)
        start = stop


@dataclass(frozen=True, slots=True)
class Span:
    """Locate one parameter in the flat tensors; `rows` is 0 for those that Adam steps."""

    start: int
    stop: int
    rows: int


def spans(model: nn.Module) -> list[Span]:
    """Return the span of every parameter; embeddings are look-up tables and left to Adam."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    found, start = [], 0
    for parameter in model.parameters():
        stop = start + parameter.numel()
        is_matrix = parameter.ndim >= 2 and id(parameter) not in tables
        found.append(Span(start, stop, parameter.shape[0] if is_matrix else 0))
        start = stop
    return found


def owned(all_spans: list[Span], worker: int, workers: int) -> list[Span]:
    """Return one worker's share of the spans, the largest dealt first."""
    loads = [0] * workers
    shares: list[list[Span]] = [[] for _ in range(workers)]
    for span in sorted(all_spans, key=lambda span: span.start - span.stop):
        lightest = loads.index(min(loads))
        loads[lightest] += span.stop - span.start
        shares[lightest].append(span)
    return shares[worker]


def publish_gradients(model: nn.Module, row: torch.Tensor) -> None:
    """Copy a model's gradients into its worker's row, and forget them."""
    start = 0
    for parameter in model.parameters():
        stop = start + parameter.numel()
        if parameter.grad is None:
            row[start:stop] = 0
        else:
            row[start:stop] = parameter.grad.reshape(-1)
        parameter.grad = None
        start = stop


def update(state: SharedState, span: Span, step: int, rates: tuple[float, float]) -> None:
    """Step one parameter; `rates` are Muon's and Adam's."""
    part = slice(span.start, span.stop)
    gradient = state.gradients[:, part].mean(dim=0)
    values, momentum = state.values[part], state.momentum[part]
    if span.rows:
        momentum.lerp_(gradient, 1 - MOMENTUM)
        matrix = orthogonalised(gradient.lerp(momentum, MOMENTUM).view(span.rows, -1))
        scale = 0.2 * math.sqrt(max(matrix.shape))
        values.add_(matrix.reshape(-1).float(), alpha=-rates[0] * scale)
        return
    second = state.second[part]
    momentum.lerp_(gradient, 1 - BETAS[0])
    second.lerp_(gradient.square(), 1 - BETAS[1])
    mean = momentum / (1 - BETAS[0] ** (step + 1))
    deviation = (second / (1 - BETAS[1] ** (step + 1))).sqrt()
    values.sub_(rates[1] * mean / (deviation + EPSILON))


def update_average(state: SharedState, span: Span, step: int, decay: float) -> None:
    """Move the moving average; early steps move faster, so that the start is forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    part = slice(span.start, span.stop)
    state.average[part].lerp_(state.values[part], 1 - decay)
