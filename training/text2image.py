"""Train the text encoder and the UNet together, on latents of the finished autoencoder.

Run `python -m training.text2image --steps 3500`; it resumes from its last checkpoint. The loss is
v-prediction under a noise schedule rescaled to zero terminal SNR (Lin et al., 2023,
https://arxiv.org/abs/2305.08891), so that the first inference step starts from pure noise.
"""

import argparse
import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.autoencoder import LATENT_CHANNELS
from training.captions import caption
from training.latents import LatentSet
from training.loop import Schedule
from training.places import RUNS
from training.shared import Plan, train
from training.tokenizer import MAX_TOKENS, load_tokenizer

LATENT_EDGE = 16
TEXT_WIDTH = 192
BATCH_SIZE = 32
PEAK_RATE = 2e-3
ADAM_FRACTION = 0.5
CAPTION_DROPOUT = 0.1
TRAIN_TIMESTEPS = 1000


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained text encoder: ids (n, 32) -> states (n, 32, 192)."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=6,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_unet() -> UNet2DConditionModel:
    """Return an untrained UNet on latents (n, 12, 16, 16), attending to text at 8x8.

    `addition_embed_type="text"` also pools the text into the time embedding, so every layer
    knows the caption from the start.
    """
    return UNet2DConditionModel(
        sample_size=LATENT_EDGE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(96, 192),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=(3, 6),
        norm_num_groups=16,
        addition_embed_type="text",
        addition_embed_type_num_heads=6,
        resnet_time_scale_shift="scale_shift",
    )


def build_noise_scheduler() -> DDIMScheduler:
    """Return the scheduler of training, whose settings the shipped one takes over."""
    return DDIMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


class TextToImage(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Hold the two networks that are trained together."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = build_text_encoder(tokenizer)
        self.unet = build_unet().to(memory_format=torch.channels_last)

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, ids: torch.Tensor
    ) -> torch.Tensor:
        """Return the predicted velocity, shaped like `noisy`."""
        states = self.text_encoder(ids).last_hidden_state
        prediction: torch.Tensor = self.unet(noisy, timesteps, states).sample
        return prediction


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold latents (n, 12, 16, 16) and token ids (n, 32)."""

    latents: torch.Tensor
    ids: torch.Tensor


def draw_batch(latents: LatentSet, tokenizer: CLIPTokenizer, seed: int, size: int) -> Batch:
    """Return a batch of random scenes, freshly worded, some captions left out."""
    rng = random.Random(seed)
    rows = [rng.randrange(len(latents)) for _ in range(size)]
    texts = [
        "" if rng.random() < CAPTION_DROPOUT else caption(latents.scenes[row], rng) for row in rows
    ]
    ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return Batch(latents.values(rows), ids)


def velocity_loss(
    model: TextToImage, batch: Batch, scheduler: DDIMScheduler, precision: torch.dtype
) -> torch.Tensor:
    """Return the mean squared error of the velocity at stratified random timesteps."""
    count = len(batch.latents)
    fractions = (torch.arange(count) + torch.rand(count)) / count
    timesteps = (fractions * TRAIN_TIMESTEPS).long()
    noise = torch.randn_like(batch.latents)
    noisy = scheduler.add_noise(batch.latents, noise, timesteps)
    target = scheduler.get_velocity(batch.latents, noise, timesteps)
    noisy = noisy.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        predicted = model(noisy, timesteps, batch.ids)
    return functional.mse_loss(predicted.float(), target)


class Task:
    """Train both networks on the latents of a folder."""

    def __init__(
        self,
        tokenizer: Path,
        latents: Path,
        precision: torch.dtype,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        self._tokenizer = load_tokenizer(tokenizer)
        self._latents = LatentSet(latents)
        self._scheduler = build_noise_scheduler()
        self._precision = precision
        self._batch_size = batch_size
        self.model = TextToImage(self._tokenizer)
        # The fused CPU attention is slow backwards; plain products save a seventh of a step.
        self.model.unet.set_attn_processor(AttnProcessor())
        self.model.text_encoder.set_attn_implementation("eager")

    def loss(self, seed: int, workers: int) -> torch.Tensor:
        """Return the velocity loss of one worker's part of a batch."""
        batch = draw_batch(self._latents, self._tokenizer, seed, self._batch_size // workers)
        return velocity_loss(self.model, batch, self._scheduler, self._precision)

    def refresh(self) -> None:
        """Load latents that were encoded meanwhile."""
        self._latents.refresh()


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=RUNS / "text2image")
    parser.add_argument("--latents", type=Path, default=RUNS / "latents")
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--decay-steps", type=int, default=1300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    options = parser.parse_args()
    schedule = Schedule(PEAK_RATE, options.steps, decay_steps=options.decay_steps)
    precision = getattr(torch, options.precision)
    task = partial(Task, options.folder / "tokenizer", options.latents, precision)
    train(Plan(options.folder, schedule, ADAM_FRACTION, options.workers), task)


if __name__ == "__main__":
    main()
