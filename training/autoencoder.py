"""Train the autoencoder: 128x128 RGB pictures to 16x16 latents of 12 channels and back.

Run `python -m training.autoencoder --steps 2000`; it resumes from its last checkpoint.
"""

import argparse
import itertools
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from PIL import Image
from torch import nn
from torch.nn import functional

from training.flat import bind
from training.loop import Schedule, load_checkpoint
from training.places import RUNS, exit_without_font
from training.scenes import render, sample_scenes
from training.shared import Plan, train

LATENT_CHANNELS = 12
BATCH_SIZE = 8
PEAK_RATE = 2e-3
ADAM_FRACTION = 1.0
# Keeps each latent channel near mean 0 and deviation 1, so one scaling factor serves all.
SPREAD_WEIGHT = 0.02
# Deviation of the noise added to latents: the diffusion model's will not be perfect either.
LATENT_NOISE = 0.05
# Latents 0..2 start as (mean colour - 1/2) x gain, about -1..1.
LATENT_GAIN = 2.0
TRAIN_SEED = 11_000_000
VALIDATION_SEED = 7


def build_autoencoder() -> AutoencoderTiny:
    """Return an untrained autoencoder.

    The "tiny" one, because it normalises nothing, so colours can pass from end to end. In trials
    an `AutoencoderKL` took twice the time per step and was behind after as many steps.
    """
    model = AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        num_encoder_blocks=(1, 1, 1, 2),
        num_decoder_blocks=(2, 2, 1, 1),
        latent_channels=LATENT_CHANNELS,
        force_upcast=False,
    )
    _pass_colours(model)
    return model


def _pass_colours(model: AutoencoderTiny) -> None:
    """Initialise so that the mean colour of each 8x8 block passes through unchanged.

    Channels 0..2 carry RGB from end to end; ReLU lets them pass because they are positive. All
    that is left to learn is what the blocks look like inside.
    """
    layers = [*model.encoder.layers, *model.decoder.layers]
    for block in (layer for layer in layers if isinstance(layer, AutoencoderTinyBlock)):
        weight = block.conv[4].weight.data
        weight.mul_(0.3)
        weight[:3] = 0
        block.conv[4].bias.data.zero_()
    first, *halvings, last = (m for m in model.encoder.layers if isinstance(m, nn.Conv2d))
    _carry(first, [(1, 1, 1.0)])
    for halving in halvings:
        _carry(halving, [(row, column, 0.25) for row in (1, 2) for column in (1, 2)])
    _carry(last, [(1, 1, LATENT_GAIN)], offset=-LATENT_GAIN / 2)
    first, *middle = (m for m in model.decoder.layers if isinstance(m, nn.Conv2d))
    _carry(first, [(1, 1, 1 / LATENT_GAIN)], offset=0.5)
    for convolution in middle:
        _carry(convolution, [(1, 1, 1.0)])


def _carry(convolution: nn.Conv2d, taps: list[tuple[int, int, float]], offset: float = 0.0) -> None:
    """Make output channels 0..2 copies of input channels 0..2, filtered by the taps."""
    weights = convolution.weight.data
    weights[:3] = 0
    for row, column, weight in taps:
        for channel in range(3):
            weights[channel, channel, row, column] = weight
    if convolution.bias is not None:
        convolution.bias.data[:3] = offset


def load_autoencoder(folder: Path) -> AutoencoderTiny:
    """Return the trained autoencoder of a folder, with its scaling factor set."""
    state = load_checkpoint(folder / "checkpoint.pt")
    if state is None:
        raise FileNotFoundError(f"no autoencoder in {folder}: run training.autoencoder first")
    model = build_autoencoder().to(memory_format=torch.channels_last).eval()
    bind(model, state["average"])
    scaling_factor = round(1 / measure_deviation(model), 3)
    model.register_to_config(scaling_factor=scaling_factor)
    return model


def pictures(seed: int, count: int) -> torch.Tensor:
    """Render `count` scenes as float32 (count, 3, 128, 128) in [-1, 1], channels last."""
    scenes = itertools.islice(sample_scenes(seed), count)
    return to_tensor(np.stack([render(scene) for scene in scenes]))


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Turn uint8 (n, height, width, 3) into float32 (n, 3, height, width) in [-1, 1]."""
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return tensor.float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


def edge_loss(made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Compare horizontal and vertical differences at three scales, mean absolute error."""
    total = made.new_zeros(())
    error = made - real
    for _ in range(3):
        total = total + (error[..., 1:] - error[..., :-1]).abs().mean()
        total = total + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        error = functional.avg_pool2d(error, 2)
    return total


class Task:
    """Train the autoencoder on freshly rendered scenes."""

    def __init__(self, precision: torch.dtype, batch_size: int = BATCH_SIZE) -> None:
        self._precision = precision
        self._batch_size = batch_size
        self.model = build_autoencoder().to(memory_format=torch.channels_last)

    def loss(self, seed: int, workers: int) -> torch.Tensor:
        """Return the loss of one worker's part of a batch."""
        real = pictures(TRAIN_SEED + seed, self._batch_size // workers)
        return reconstruction_loss(self.model, real, self._precision)

    def refresh(self) -> None:
        """Do nothing: pictures are rendered as they are needed."""


def reconstruction_loss(
    model: AutoencoderTiny, real: torch.Tensor, precision: torch.dtype
) -> torch.Tensor:
    """Compare pixels, blocks of 4x4 and edges; keep the latents' channels alike."""
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        latents = model.encoder(real)
        made = model.decoder(latents + LATENT_NOISE * torch.randn_like(latents))
    made, latents = made.float(), latents.float()
    pixel, edge = functional.l1_loss(made, real), edge_loss(made, real)
    coarse = functional.avg_pool2d(made - real, 4).abs().mean()
    deviation, mean = torch.std_mean(latents, dim=(0, 2, 3))
    spread = ((deviation - 1).square() + mean.square()).mean()
    return pixel + coarse + edge + SPREAD_WEIGHT * spread


def write_sheet(model: AutoencoderTiny, path: Path, count: int = 12) -> float:
    """Write real pictures above their reconstructions; return the mean absolute error (0..255)."""
    real = pictures(VALIDATION_SEED, count)
    with torch.no_grad():
        made = model.decode(model.encode(real).latents).sample.clamp(-1, 1)
    rows = [torch.cat(list(row), dim=-1) for row in (real, made)]
    sheet = torch.cat(rows, dim=-2).permute(1, 2, 0).add(1).mul(127.5).round().byte()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.numpy()).save(path)
    return float((made - real).abs().mean() * 127.5)


def measure_deviation(model: AutoencoderTiny, count: int = 64) -> float:
    """Return the standard deviation of the latents of `count` pictures."""
    with torch.no_grad():
        return float(model.encode(pictures(VALIDATION_SEED + 1, count)).latents.std())


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=RUNS / "autoencoder")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--decay-steps", type=int, default=1200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    options = parser.parse_args()
    exit_without_font()
    schedule = Schedule(PEAK_RATE, options.steps, decay_steps=options.decay_steps)
    plan = Plan(options.folder, schedule, ADAM_FRACTION, options.workers)
    train(plan, partial(Task, getattr(torch, options.precision)))
    error = write_sheet(load_autoencoder(options.folder), options.folder / "reconstructions.png")
    print(f"mean absolute error {error:.2f} of 255")


if __name__ == "__main__":
    main()
