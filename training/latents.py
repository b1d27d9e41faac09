"""Encode scenes once, into shards of latents that the UNet trains on.

Run `python -m training.latents --shards 20` after the autoencoder. Shard i holds the scenes of seed
`TRAIN_SEED + i`, none of them held out; scenes are not stored, for the seed gives them back.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny

from training.autoencoder import load_autoencoder, to_tensor
from training.scenes import Scene, render, sample_scenes

SHARD_SCENES = 2048
TRAIN_SEED = 1_000
CHUNK = 32


def shard_scenes(shard: int) -> list[Scene]:
    """Return the scenes of a shard."""
    return list(itertools.islice(sample_scenes(TRAIN_SEED + shard), SHARD_SCENES))


@torch.inference_mode()
def encode(
    model: AutoencoderTiny, scenes: list[Scene], precision: torch.dtype = torch.bfloat16
) -> np.ndarray:
    """Return scaled latents, float16 (n, 8, 16, 16)."""
    chunks = []
    for start in range(0, len(scenes), CHUNK):
        images = to_tensor(np.stack([render(scene) for scene in scenes[start : start + CHUNK]]))
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            latents = model.encode(images).latents
        chunks.append((latents.float() * model.config.scaling_factor).half().numpy())
    return np.concatenate(chunks)


class LatentSet:
    """Read the shards of a folder, and new ones as they appear."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._latents: list[np.ndarray] = []
        self.scenes: list[Scene] = []
        self.refresh()

    def __len__(self) -> int:
        return len(self.scenes)

    def refresh(self) -> None:
        """Load the shards that were written since the last call, in order."""
        while (path := shard_path(self._folder, len(self._latents))).exists():
            self.scenes += shard_scenes(len(self._latents))
            self._latents.append(np.load(path))
        if not self._latents:
            raise FileNotFoundError(f"no latents in {self._folder}: run training.latents first")

    def values(self, rows: list[int]) -> torch.Tensor:
        """Return the latents of some scenes as float32 (n, 8, 16, 16)."""
        picked = [self._latents[row // SHARD_SCENES][row % SHARD_SCENES] for row in rows]
        return torch.from_numpy(np.stack(picked)).float()


def shard_path(folder: Path, shard: int) -> Path:
    """Return where a shard lies."""
    return folder / f"shard-{shard:04d}.npy"


def main() -> None:
    """Parse the command line and write the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--autoencoder", type=Path, default=Path("training/runs/autoencoder"))
    parser.add_argument("--folder", type=Path, default=Path("training/runs/latents"))
    parser.add_argument("--shards", type=int, default=20)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    model = load_autoencoder(options.autoencoder)
    for shard in range(options.shards):
        path = shard_path(options.folder, shard)
        if not path.exists():
            partial = path.with_suffix(".partial.npy")
            np.save(partial, encode(model, shard_scenes(shard)))
            partial.replace(path)


if __name__ == "__main__":
    main()
