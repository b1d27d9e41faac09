"""What becomes of errors in the inference thread."""

import gc
import platform
import subprocess
import sys
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


def test_a_device_that_is_full_is_not_broken(engine: Any) -> None:
    with pytest.raises(OutOfMemory):
        engine._guarded("a test", fail, torch.AcceleratorError("CUDA error: out of memory"), [])
    assert not engine.broken


def test_a_shape_that_onednn_does_not_support_breaks_nothing(engine: Any) -> None:
    with pytest.raises(InternalError):
        engine._guarded("a test", fail, RuntimeError("could not create a primitive"), [])
    assert not engine.broken


WITHOUT_MEMORY_FOR_CODE = """
import resource
import threading
from pathlib import Path

import torch

from node.errors import InternalError
from node.inference.engine import Engine
from node.inference.probe import builds_new_code

def convolve(side):
    image, weight = torch.zeros(1, 16, side, 3), torch.zeros(8, 16, 3, 3)
    return torch.mkldnn_convolution(image, weight, None, (1, 1), (1, 1), (1, 1), 1)

engine = Engine("cpu", "float32", max_steps=10, max_pixels=64)
convolve(4)
freed = [bytearray(65536) for _ in range(200)]  # stays with malloc: tensors find room there
del freed
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), resource.RLIM_INFINITY))
try:
    engine._guarded("a test", convolve, 5)
except InternalError as error:
    print(error.detail)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
convolve(4)
print("known shapes work")
print("new shapes work:", builds_new_code())
fresh = threading.Thread(target=lambda: print("in another thread:", builds_new_code()))
fresh.start()
fresh.join()
print(engine.broken)
"""


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="oneDNN's assembler for x86, and RLIMIT_AS as Linux binds it",
)
def test_a_thread_without_memory_for_code_is_known_for_good() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MEMORY_FOR_CODE],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={
            "PYTHONPATH": ":".join(sys.path),
            "OMP_NUM_THREADS": "1",
            "MALLOC_MMAP_THRESHOLD_": "1000000000",
            "MALLOC_TRIM_THRESHOLD_": "1000000000",
        },
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-5:] == [
        "the pipeline failed: RuntimeError: could not create a primitive",
        "known shapes work",
        "new shapes work: False",
        "in another thread: True",
        "oneDNN had no memory for code and takes no new shapes; the process must start anew",
    ]
