"""A preview shows what the picture will be, and changes nothing."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    UniPCMultistepScheduler,
)

from node.inference.previews import PREVIEW_PIXELS, preview

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
]

STEPS = 4


@dataclass
class UnfinishedPipeline:
    """As much of a pipeline as a preview needs."""

    vae: Any
    scheduler: Any


@pytest.fixture(scope="module")
def vae() -> AutoencoderTiny:
    """A small autoencoder of factor 8 with random weights."""
    torch.manual_seed(0)
    widths = (8, 8, 8, 8)
    return AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    ).eval()


def stepped(scheduler: Any, latents: torch.Tensor) -> Any:
    """The scheduler after its first step, for a denoiser that sees no noise."""
    scheduler.set_timesteps(STEPS)
    scheduler.step(torch.zeros_like(latents), scheduler.timesteps[0], latents)
    return scheduler


def unfinished(side: int = 8) -> torch.Tensor:
    return torch.randn(2, 4, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def seen(vae: AutoencoderTiny, latents: torch.Tensor) -> np.ndarray:
    decoded = vae.decode(latents[:1]).sample[0] / 2 + 0.5
    return (decoded.clamp(0, 1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


@torch.no_grad()
def test_a_tiny_autoencoder_gives_a_preview_of_native_size(vae: AutoencoderTiny) -> None:
    latents = unfinished()
    scheduler = stepped(DDIMScheduler(), latents)
    made = preview(UnfinishedPipeline(vae, scheduler), latents, 64, 64)
    assert made.shape == (64, 64, 3)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, seen(vae, latents))


@torch.no_grad()
def test_a_large_picture_is_previewed_small(vae: AutoencoderTiny) -> None:
    latents = unfinished(2 * PREVIEW_PIXELS // 8)
    scheduler = stepped(DDIMScheduler(), latents)
    made = preview(
        UnfinishedPipeline(vae, scheduler), latents, 2 * PREVIEW_PIXELS, 2 * PREVIEW_PIXELS
    )
    assert made.shape == (PREVIEW_PIXELS, PREVIEW_PIXELS, 3)


@pytest.mark.parametrize(
    "solver",
    [DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler, UniPCMultistepScheduler],
)
@torch.no_grad()
def test_the_scheduler_s_guess_at_the_finished_picture_is_shown(
    vae: AutoencoderTiny, solver: Any
) -> None:
    latents = unfinished()
    scheduler = stepped(solver(), latents)
    made = preview(UnfinishedPipeline(vae, scheduler), latents, 64, 64)
    np.testing.assert_array_equal(made, seen(vae, scheduler.model_outputs[-1]))
    assert (made != seen(vae, latents)).any()


@pytest.mark.filterwarnings("ignore:.*dpmsolver and sde-dpmsolver:FutureWarning")
@pytest.mark.parametrize(
    ("solver", "settings"),
    [
        (
            DPMSolverMultistepScheduler,
            {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
        ),
        (UniPCMultistepScheduler, {"predict_x0": False}),
    ],
)
@torch.no_grad()
def test_what_a_solver_keeps_of_the_noise_is_not_shown(
    vae: AutoencoderTiny, solver: Any, settings: dict[str, Any]
) -> None:
    latents = unfinished()
    scheduler = stepped(solver(**settings), latents)
    made = preview(UnfinishedPipeline(vae, scheduler), latents, 64, 64)
    np.testing.assert_array_equal(made, seen(vae, latents))


@torch.no_grad()
def test_latents_scheduler_and_random_state_stay_as_they_were(vae: AutoencoderTiny) -> None:
    latents = unfinished()
    scheduler = stepped(DPMSolverMultistepScheduler(), latents)
    random, guess = torch.get_rng_state(), scheduler.model_outputs[-1].clone()
    before = latents.clone()
    preview(UnfinishedPipeline(vae, scheduler), latents, 64, 64)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(scheduler.model_outputs[-1], guess)
    assert torch.equal(latents, before)
