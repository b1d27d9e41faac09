"""A training gives the same weights whether it runs through or resumes, in one process or two."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

from training.flat import SharedState, bind, owned, spans
from training.loop import Schedule, load_checkpoint
from training.shared import Plan, train

PATIENCE_SECONDS = 60


class Doubling:
    """Learn to double: a table, a matrix and a bias, as every model here has them."""

    def __init__(self) -> None:
        self.model: nn.Module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3))

    def loss(self, seed: int, workers: int) -> torch.Tensor:
        """Compare with twice the input; `seed` draws it."""
        values = torch.randn(8 // workers, 3, generator=torch.Generator().manual_seed(seed))
        loss: torch.Tensor = (self.model(values) - 2 * values).square().mean()
        return loss

    def refresh(self) -> None:
        """Do nothing."""


class BrokenInOneWorker(Doubling):
    """Fail in the second worker, while the first one waits for its gradients."""

    def loss(self, seed: int, workers: int) -> torch.Tensor:
        if seed == 5:
            raise ValueError("this worker fails at its third step")
        return super().loss(seed, workers)


def plan(folder: Path, steps: int, workers: int = 1) -> Plan:
    return Plan(folder, Schedule(0.05, steps, warmup_steps=1), 1.0, workers)


def error_of(folder: Path) -> float:
    state = load_checkpoint(folder / "checkpoint.pt")
    assert state is not None
    task = Doubling()
    bind(task.model, state["values"])
    return float(task.loss(99, 1).detach())


def test_a_resumed_training_ends_with_the_weights_of_one_that_ran_through(tmp_path: Path) -> None:
    train(plan(tmp_path / "through", 6), Doubling)
    train(plan(tmp_path / "resumed", 4), Doubling)
    train(plan(tmp_path / "resumed", 6), Doubling)
    through, resumed = (
        load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("through", "resumed")
    )
    assert through is not None
    assert resumed is not None
    assert through["step"] == resumed["step"] == 6
    for name in ("values", "momentum", "second", "average"):
        assert torch.equal(through[name], resumed[name]), name


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    train(plan(tmp_path, 1), Doubling)
    before = error_of(tmp_path)
    train(plan(tmp_path, 80), Doubling)
    assert error_of(tmp_path) < before / 4


def test_a_training_that_has_its_steps_changes_nothing(tmp_path: Path) -> None:
    train(plan(tmp_path, 3), Doubling)
    written = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    train(plan(tmp_path, 3), Doubling)
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == written


def test_one_worker_leaves_the_threads_of_its_process_as_they_were(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    train(plan(tmp_path, 1), Doubling)
    assert torch.get_num_threads() == before


def test_two_workers_train_one_model(tmp_path: Path) -> None:
    train(plan(tmp_path, 80, workers=2), Doubling)
    assert error_of(tmp_path) < 0.5


def test_a_worker_that_fails_ends_the_training_and_leaves_nobody_waiting(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a training worker failed"):
        train(plan(tmp_path, 10, workers=2), BrokenInOneWorker)


def test_workers_end_with_a_training_that_is_killed(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from training.shared import train;"
        "from training.tests.test_shared import Doubling, plan;"
        f"train(plan(Path({str(tmp_path)!r}), 10**9, workers=2), Doubling)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    try:
        _until(partial(_exists, tmp_path / "checkpoint.pt"), "a first checkpoint")
        workers = psutil.Process(parent.pid).children(recursive=True)
        assert len(workers) >= 2
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    gone, alive = psutil.wait_procs(workers, timeout=PATIENCE_SECONDS)
    assert not alive
    assert gone


def _exists(path: Path) -> bool:
    return path.exists()


def _until(condition: "partial[bool]", what: str) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < limit, f"{what} did not come"
        time.sleep(0.02)


def test_workers_own_every_parameter_once() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    every = spans(model)
    shares = [owned(every, worker, 3) for worker in range(3)]
    together = [span for share in shares for span in share]
    assert sorted(together, key=lambda span: span.start) == every
    assert sum(span.stop - span.start for span in every) == sum(
        parameter.numel() for parameter in model.parameters()
    )


def test_embeddings_are_left_to_adam() -> None:
    table, matrix, bias = spans(nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 4)))
    assert (table.rows, matrix.rows, bias.rows) == (0, 4, 0)


def test_bound_parameters_are_views_of_the_flat_values() -> None:
    model = nn.Linear(2, 2)
    state = SharedState.of(model, workers=1)
    bind(model, state.values)
    state.values.zero_()
    assert not any(parameter.any() for parameter in model.parameters())
