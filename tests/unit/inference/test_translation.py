"""Every exception of torch and Diffusers has a meaning on the wire."""

import pytest
import torch

from node.errors import Disposition, GenerationFailed, InternalError, JobError, OutOfMemory
from node.inference.translation import REFUSALS, translated

MAPPING: list[tuple[Exception, type[JobError]]] = [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), OutOfMemory),
    (MemoryError(), OutOfMemory),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"), OutOfMemory),
    (RuntimeError("not enough memory: you tried to allocate 4 bytes"), OutOfMemory),
    (RuntimeError("Cannot allocate memory"), OutOfMemory),
    (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), OutOfMemory),
    (RuntimeError("Native API failed: UR_RESULT_ERROR_OUT_OF_MEMORY"), OutOfMemory),
    (RuntimeError("Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"), OutOfMemory),
    (RuntimeError("Native API returns: 38 (UR_RESULT_ERROR_OUT_OF_HOST_MEMORY)"), OutOfMemory),
    (RuntimeError("Invalid buffer size: 8.21 GB"), OutOfMemory),
    (RuntimeError("std::bad_alloc"), OutOfMemory),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), OutOfMemory),
    (RuntimeError("CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), OutOfMemory),
    (torch.AcceleratorError("CUDA error: out of memory"), OutOfMemory),
    (ValueError("`height` has to be divisible by 8"), GenerationFailed),
    (TypeError("unexpected keyword"), GenerationFailed),
    (IndexError("index 21 is out of bounds"), GenerationFailed),
    (KeyError("missing"), GenerationFailed),
    (AssertionError(), GenerationFailed),
    (NotImplementedError("no such thing"), GenerationFailed),
    (RuntimeError("CUDA error: device-side assert triggered"), InternalError),
    (RuntimeError(), InternalError),
    (OSError("gone"), InternalError),
    (AttributeError("no attribute"), InternalError),
    (ZeroDivisionError("division by zero"), InternalError),
    (Exception("anything"), InternalError),
]


@pytest.mark.parametrize(
    ("error", "expected"), MAPPING, ids=[f"{type(e).__name__}-{e}"[:48] for e, _ in MAPPING]
)
def test_it_is_mapped_and_said_in_one_line(error: Exception, expected: type[JobError]) -> None:
    failure = translated(error, "an image of 64x64", "cuda")
    assert type(failure) is expected
    assert failure.detail
    assert "\n" not in failure.detail


def test_every_refusal_is_in_the_table_above() -> None:
    mapped = [type(error) for error, expected in MAPPING if expected is GenerationFailed]
    assert all(any(issubclass(each, refusal) for each in mapped) for refusal in REFUSALS)


def test_a_lack_of_memory_says_where_and_for_what() -> None:
    failure = translated(MemoryError(), "an image of 64x64", "cuda:1")
    assert "cuda:1" in failure.detail
    assert "64x64" in failure.detail
    assert failure.disposition is Disposition.RETRY


def test_a_refusal_is_not_tried_again_and_a_bug_is() -> None:
    assert translated(ValueError("x"), "it", "cpu").disposition is Disposition.DEAD_LETTER
    assert translated(OSError("x"), "it", "cpu").disposition is Disposition.RETRY


def test_a_long_reason_of_many_lines_is_cut_to_one() -> None:
    failure = translated(ValueError("line\n" * 1000), "it", "cpu")
    assert "\n" not in failure.detail
    assert len(failure.detail) < 400


def test_what_torch_really_raises_without_memory_is_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50, dtype=torch.uint8)
    assert type(translated(raised.value, "an image of 64x64", "cpu")) is OutOfMemory
