"""What torch and Diffusers raise, in our own words."""

from typing import Final

import torch

from node.errors import GenerationFailed, InternalError, JobError, OutOfMemory

# torch raises a plain RuntimeError where a CPU or an Apple GPU has no memory left.
_OUT_OF_MEMORY: Final = (
    "can't allocate memory",
    "not enough memory",
    "cannot allocate memory",
    "out of memory",
    "out_of_memory",
)

# What Diffusers raises for arguments that it cannot take; another attempt would raise it again.
REFUSALS: Final = (ValueError, TypeError, LookupError, AssertionError, NotImplementedError)


def translated(error: Exception, what: str, device: str) -> JobError:
    """Say as a JobError what went wrong with `what` (for example, "512x512, 1 image")."""
    reason = " ".join(str(error).split())[:300]
    if _is_out_of_memory(error):
        return OutOfMemory(f"no memory left on {device} for {what}; ask for fewer pixels")
    if isinstance(error, REFUSALS):
        return GenerationFailed(f"the pipeline refused the request: {reason}")
    return InternalError(f"the pipeline failed: {type(error).__name__}: {reason}")


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)
