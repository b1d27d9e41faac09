"""A rough picture from unfinished latents."""

from typing import Any, Final

import numpy as np
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    UniPCMultistepScheduler,
)
from numpy.typing import NDArray

PREVIEW_PIXELS: Final = 256
"""Longest side of a preview."""


def preview(pipeline: Any, latents: torch.Tensor, width: int, height: int) -> NDArray[np.uint8]:
    """Decode the first sample of a family with an autoencoder to height x width x 3 pixels.

    The latents are shrunk before: decoding costs in proportion to their area, and the mean over
    neighbours removes much of the noise. Neither generator nor latents are touched, so the
    picture stays the same as without previews.
    """
    vae = pipeline.vae
    latents = _as_expected_in_the_end(pipeline.scheduler, latents)[:1]
    if latents.dim() == 3:
        latents = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)
    scale = min(1.0, PREVIEW_PIXELS / max(width, height))
    rows, columns = (max(1, round(side * scale)) for side in latents.shape[-2:])
    small = torch.nn.functional.interpolate(latents.float(), size=(rows, columns), mode="area")
    small = small / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
    # In float16 the autoencoder of SDXL overflows; its pipeline upcasts it in the same way.
    upcast = vae.dtype == torch.float16 and vae.config.force_upcast
    try:
        if upcast:
            vae.to(dtype=torch.float32)
        image = vae.decode(small.to(vae.dtype), return_dict=False)[0][0]
    finally:
        if upcast:
            vae.to(dtype=torch.float16)
    values = (image.float() / 2 + 0.5).nan_to_num().clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    return np.asarray((values * 255).round(), dtype=np.uint8)


def _as_expected_in_the_end(scheduler: Any, latents: torch.Tensor) -> torch.Tensor:
    """Return the noise scheduler's latest guess at the finished latents, else the noisy ones.

    Solvers that extrapolate clean samples keep their last few. At a third of the steps the guess
    shows the scene, where the noisy latents decode to confetti.
    """
    if not _keeps_clean_samples(scheduler):
        return latents
    guess = scheduler.model_outputs[-1]
    return latents if guess is None or guess.shape != latents.shape else guess


def _keeps_clean_samples(scheduler: Any) -> bool:
    """Say whether `model_outputs` are samples; the same solvers can be set to keep noise."""
    if isinstance(scheduler, UniPCMultistepScheduler):
        return bool(scheduler.config.predict_x0)
    if isinstance(scheduler, DPMSolverMultistepScheduler | DPMSolverSinglestepScheduler):
        return str(scheduler.config.algorithm_type).endswith("++")
    return False
