"""Lacks of memory: real ones, as torch refuses what is asked of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import cpu_offload

WITH_TILES = "memory: made with VAE tiling, since the plain way ran out of memory"
MORE_THAN_THERE_IS = 2**50


def allocate_too_much() -> None:
    """Ask torch for a pebibyte."""
    torch.empty(MORE_THAN_THERE_IS, dtype=torch.uint8)


@contextmanager
def memory_for(module: torch.nn.Module, side: int) -> Iterator[list[int]]:
    """The module has memory for inputs of this side at most; yields the sides that it was given."""
    seen: list[int] = []

    def allocate(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(max(inputs[0].shape[-2:]))
        if seen[-1] > side:
            allocate_too_much()

    handle = module.register_forward_pre_hook(allocate)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def no_memory_from_call(module: torch.nn.Module, first: int, last: int) -> Iterator[None]:
    """The module has no memory for its calls from `first` to `last`, counted from 1."""
    calls = 0

    def allocate(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if first <= calls <= last:
            allocate_too_much()

    handle = module.register_forward_pre_hook(allocate)
    try:
        yield
    finally:
        handle.remove()


def offload_layers_to_cpu(pipeline: Any, device: str) -> None:
    """Do what `enable_sequential_cpu_offload` does, to `cpu` itself.

    Diffusers would say `cpu:0`, which for torch is another device than `cpu`.
    """
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            cpu_offload(module, torch.device(device), offload_buffers=bool(module._parameters))
