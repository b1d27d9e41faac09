"""What becomes of errors in the inference thread."""

import gc
import weakref
from typing import Any

import pytest
import torch

from contracts.result import Status
from node.errors import GenerationFailed, InternalError, JobStopped, NodeError, OutOfMemory

# torch's own, when Diffusers imports its pipelines; the import waits for the filter.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")


class Tensor:
    """Stands for what a failed job had on the device."""


@pytest.fixture
def engine() -> Any:
    from node.inference.engine import Engine

    return Engine("cpu", "float32", max_steps=10, max_pixels=64)


def fail(error: Exception, seen: list[weakref.ref[Any]]) -> None:
    latents = Tensor()
    seen.append(weakref.ref(latents))
    raise error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
        (ValueError("no such size"), GenerationFailed),
        (RuntimeError("boom"), InternalError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (JobStopped(Status.CANCELLED), JobStopped),
        (GenerationFailed("as it is"), GenerationFailed),
    ],
)
def test_an_error_comes_out_in_our_own_words(
    engine: Any, error: Exception, expected: type[BaseException]
) -> None:
    with pytest.raises(expected) as raised:
        engine._guarded("a test", fail, error, [])
    assert isinstance(raised.value, NodeError | KeyboardInterrupt)
    assert not engine.broken


def test_a_job_without_memory_lets_go_of_what_it_had(engine: Any) -> None:
    seen: list[weakref.ref[Any]] = []
    with pytest.raises(OutOfMemory) as raised:
        engine._guarded("a test", fail, torch.OutOfMemoryError("CUDA out of memory"), seen)
    gc.collect()
    assert raised.value.__context__ is None
    assert [reference() for reference in seen] == [None]


def test_a_fault_of_the_device_is_remembered(engine: Any) -> None:
    fault = torch.AcceleratorError("CUDA error: device-side assert triggered")
    with pytest.raises(InternalError):
        engine._guarded("a test", fail, fault, [])
    assert "cpu failed" in engine.broken
