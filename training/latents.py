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
from training.places import RUNS, exit_without_font
from training.scenes import Scene, render, sample_scenes

SHARD_SCENES = 2048
TRAIN_SEED = 1_000
CHUNK = 32


def shard_scenes(shard: int, count: int = SHARD_SCENES) -> list[Scene]:
    """Return the first scenes of a shard."""
    return list(itertools.islice(sample_scenes(TRAIN_SEED + shard), count))


def encode(
    model: AutoencoderTiny, scenes: list[Scene], precision: torch.dtype = torch.bfloat16
) -> np.ndarray:
    """Return scaled latents, float16 (n, 12, 16, 16)."""
    chunks = []
    autocast = torch.autocast("cpu", precision, enabled=precision != torch.float32)
    for start in range(0, len(scenes), CHUNK):
        images = to_tensor(np.stack([render(scene) for scene in scenes[start : start + CHUNK]]))
        with torch.inference_mode(), autocast:
            latents = model.encode(images).latents
        chunks.append((latents.float() * model.config.scaling_factor).half().numpy())
    return np.concatenate(chunks)


class LatentSet:
    """Read the shards of a folder, all of one size, and new ones as they appear."""

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
            latents = np.load(path)
            self.scenes += shard_scenes(len(self._latents), len(latents))
            self._latents.append(latents)
        if not self._latents:
            raise FileNotFoundError(f"no latents in {self._folder}: run training.latents first")

    def values(self, rows: list[int]) -> torch.Tensor:
        """Return the latents of some scenes as float32 (n, 12, 16, 16)."""
        size = len(self._latents[0])
        picked = [self._latents[row // size][row % size] for row in rows]
        return torch.from_numpy(np.stack(picked)).float()


def shard_path(folder: Path, shard: int) -> Path:
    """Return where a shard lies."""
    return folder / f"shard-{shard:04d}.npy"


def write_shard(model: AutoencoderTiny, path: Path, scenes: list[Scene]) -> None:
    """Encode scenes into a file that is whole whenever it exists."""
    partial = path.with_suffix(".partial.npy")
    np.save(partial, encode(model, scenes))
    partial.replace(path)


def main() -> None:
    """Parse the command line and write the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--autoencoder", type=Path, default=RUNS / "autoencoder")
    parser.add_argument("--folder", type=Path, default=RUNS / "latents")
    parser.add_argument("--shards", type=int, default=20)
    options = parser.parse_args()
    exit_without_font()
    options.folder.mkdir(parents=True, exist_ok=True)
    model = load_autoencoder(options.autoencoder)
    for shard in range(options.shards):
        path = shard_path(options.folder, shard)
        if not path.exists():
            write_shard(model, path, shard_scenes(shard))


if __name__ == "__main__":
    main()
