"""What torch and Diffusers raise, in our own words."""

from typing import Final

import torch

from node.errors import GenerationFailed, InternalError, JobError, OutOfMemory

# torch raises a plain RuntimeError where a CPU or an Apple GPU has no memory left, and where a
# library below it has none: cuBLAS and cuDNN (alloc_failed), Level Zero (out_of_..._memory).
_OUT_OF_MEMORY: Final = (
    "can't allocate memory",
    "not enough memory",
    "cannot allocate memory",
    "out of memory",
    "out_of_memory",
    "out_of_device_memory",
    "out_of_host_memory",
    "invalid buffer size",
    "bad_alloc",
    "alloc_failed",
    "allocation_failed",
)

NO_PRIMITIVE: Final = "could not create a primitive"
"""What oneDNN says when it cannot build the code for a shape, for want of memory or support."""

# What Diffusers raises for arguments that it cannot take; another attempt would raise it again.
REFUSALS: Final = (ValueError, TypeError, LookupError, AssertionError, NotImplementedError)


def translated(error: Exception, what: str, device: str) -> JobError:
    """Say as a JobError what went wrong with `what` (for example, "an image of 64x64")."""
    reason = " ".join(str(error).split())[:300]
    if is_out_of_memory(error):
        return OutOfMemory(f"no memory left on {device} for {what}; a smaller one needs less")
    if isinstance(error, REFUSALS):
        return GenerationFailed(f"the pipeline refused the request: {reason}")
    return InternalError(f"the pipeline failed: {type(error).__name__}: {reason}")


def is_out_of_memory(error: Exception) -> bool:
    """Say whether a lack of memory is behind it, of the device or of the computer."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)
