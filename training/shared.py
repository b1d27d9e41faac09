"""Train one model with several single-threaded processes over shared memory.

Two processes of one thread meet twice a step; one process of two threads meets at every operator,
which starves on a busy machine. Each worker computes gradients for its part of the batch, then
updates the parameters it owns. Matrices step with Muon, everything else with Adam.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from training.flat import (
    SharedState,
    bind,
    owned,
    publish_gradients,
    spans,
    update,
    update_average,
)
from training.loop import Progress, Schedule

AVERAGE_DECAY = 0.998
CHECKPOINT_STEPS = 100


class Task(Protocol):
    """Provide what one worker trains: a model and the loss of a step's batch part."""

    model: nn.Module

    def loss(self, seed: int, workers: int) -> torch.Tensor:
        """Return the loss of one worker's part of a batch, drawn by `seed`."""

    def refresh(self) -> None:
        """Look for new data; called at every checkpoint."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Say where a training writes, for how long it runs and in how many processes."""

    folder: Path
    schedule: Schedule
    adam_fraction: float
    workers: int = 2

    @property
    def checkpoint(self) -> Path:
        """Return where the training saves and resumes."""
        return self.folder / "checkpoint.pt"


def train(plan: Plan, make_task: Callable[[], Task]) -> None:
    """Train until `schedule.steps`, from the last checkpoint if there is one.

    Raises RuntimeError where a worker failed.
    """
    torch.manual_seed(0)
    state = SharedState.of(make_task().model, plan.workers)
    start = state.load(plan.checkpoint)
    if plan.workers == 1:
        with single_threaded():
            _work(plan, make_task, 0, state, start, threading.Barrier(1))
        return
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(plan.workers)
    processes = [
        context.Process(
            target=_work_apart, args=(plan, make_task, worker, state, start, barrier), daemon=True
        )
        for worker in range(plan.workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("a training worker failed")


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let torch use one thread, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Meeting(Protocol):
    """Provide the point where workers wait for each other, between threads or processes."""

    def wait(self) -> int:
        """Return when every worker has come."""

    def abort(self) -> None:
        """Send the others home with BrokenBarrierError."""


def _work_apart(
    plan: Plan,
    make_task: Callable[[], Task],
    worker: int,
    state: SharedState,
    start: int,
    barrier: Meeting,
) -> None:
    """Work in a process of one's own; a failure ends the other workers, too."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    try:
        _work(plan, make_task, worker, state, start, barrier)
    except BaseException:
        barrier.abort()
        raise


def _die_with_parent() -> None:
    """Let no worker go on writing checkpoints once the training was killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _work(
    plan: Plan,
    make_task: Callable[[], Task],
    worker: int,
    state: SharedState,
    start: int,
    barrier: Meeting,
) -> None:
    task = make_task()
    bind(task.model, state.values)
    mine = owned(spans(task.model), worker, plan.workers)
    progress = Progress(every_steps=25)
    for step in range(start, plan.schedule.steps):
        loss = _backward(task, step * plan.workers + worker, plan.workers)
        publish_gradients(task.model, state.gradients[worker])
        barrier.wait()
        rate = plan.schedule.rate(step)
        for span in mine:
            update(state, span, step, (rate, rate * plan.adam_fraction))
            update_average(state, span, step, AVERAGE_DECAY)
        barrier.wait()
        if worker == 0:
            progress.record(step, loss=loss, rate=rate)
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == plan.schedule.steps:
            if worker == 0:
                state.save(plan.checkpoint, step + 1)
            task.refresh()
            barrier.wait()


def _backward(task: Task, seed: int, workers: int) -> float:
    """Leave the gradients of one worker's part of a batch in the model; return the loss."""
    torch.manual_seed(seed)
    loss = task.loss(seed, workers)
    loss.backward()
    return float(loss.detach())
