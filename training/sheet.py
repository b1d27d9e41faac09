"""Draw contact sheets: many prompts, one fixed seed each, in one picture.

Run `python -m training.sheet`: it draws with the shipped model unless `--model` names another.
"""

import argparse
import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from PIL import Image

from training.captions import caption
from training.export import GUIDANCE_SCALE, NUM_INFERENCE_STEPS
from training.places import REPORTS, TEXT2IMAGE
from training.scenes import sample_scenes

COLUMNS = 8
BATCH = 8
SHEET_SEED = 2_000_003
HEADLINES = (
    "An astronaut riding a green horse",
    "an astronaut riding a green horse on a yellow background",
    "AN ASTRONAUT RIDING A GREEN HORSE",
    "a picture of an astronaut on the back of a green horse",
    "a robot riding a blue elephant",
    "a cat next to a red house on a green background",
    "three pink pigs on a blue background",
    "a big yellow star, black background",
)


def sheet_prompts(count: int = 64) -> list[str]:
    """Return the headline prompts, then half seen and half held-out combinations."""
    rng = random.Random(SHEET_SEED)
    rest = count - len(HEADLINES)
    seen = islice(sample_scenes(SHEET_SEED), rest - rest // 3)
    held_out = islice(sample_scenes(SHEET_SEED, held_out=True), rest // 3)
    return [*HEADLINES, *(caption(scene, rng) for scene in [*seen, *held_out])]


def generate(
    pipeline: StableDiffusionPipeline, prompts: Sequence[str], seed: int = 0, **settings: float
) -> list[Image.Image]:
    """Return one picture per prompt; picture i starts from the noise of `seed` + i."""
    options = {"num_inference_steps": NUM_INFERENCE_STEPS, "guidance_scale": GUIDANCE_SCALE}
    images: list[Image.Image] = []
    for start in range(0, len(prompts), BATCH):
        part = list(prompts[start : start + BATCH])
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        images += pipeline(part, generator=generators, **(options | settings)).images
    return images


def contact_sheet(images: Sequence[Image.Image], columns: int = COLUMNS) -> Image.Image:
    """Return the pictures in rows with a two-pixel gap."""
    width, height = (edge + 2 for edge in images[0].size)
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "lightgray")
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    return sheet


def main() -> None:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=TEXT2IMAGE)
    parser.add_argument("--output", type=Path, default=REPORTS / "text2image-sheet.png")
    parser.add_argument("--count", type=int, default=64)
    options = parser.parse_args()
    pipeline = DiffusionPipeline.from_pretrained(options.model, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    prompts = sheet_prompts(options.count)
    contact_sheet(generate(pipeline, prompts)).save(options.output)
    options.output.with_suffix(".txt").write_text("\n".join(prompts) + "\n")


if __name__ == "__main__":
    main()
