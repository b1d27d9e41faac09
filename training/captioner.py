"""Train the captioner, which is also the judge: picture -> subjects, tints, background, relation.

Run `python -m training.captioner --steps 1500`; it resumes from its last checkpoint. It sees
rendered scenes only, held-out combinations included, and never a generated picture. Noise, blur
and small shifts keep it from leaning on single pixels, which generated pictures get wrong.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetForImageClassification

from training.autoencoder import to_tensor
from training.captions import canonical_caption
from training.labels import HEADS, class_numbers, head_slices, logit_names, scene_of
from training.loop import Optimizer, Progress, Schedule, load_checkpoint, save_atomically
from training.places import RUNS, exit_without_font
from training.scenes import Scene, render, sample_scenes

BATCH_SIZE = 32
PEAK_RATE = 2e-3
TRAIN_SEED = 21_000_000
VALIDATION_SEED = 77
HELD_OUT_SHARE = 0.1


def build_captioner() -> ResNetForImageClassification:
    """Return an untrained captioner: (n, 3, 128, 128) in [-1, 1] -> the logits of all heads."""
    names = logit_names()
    config = ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 128, 256],
        depths=[1, 2, 2, 2],
        layer_type="basic",
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    return ResNetForImageClassification(config)


def labelled_scenes(seed: int, count: int) -> list[Scene]:
    """Return scenes for the judge, which must know held-out combinations too."""
    kept_out = round(count * HELD_OUT_SHARE)
    seen = itertools.islice(sample_scenes(seed), count - kept_out)
    held_out = itertools.islice(sample_scenes(seed, held_out=True), kept_out)
    return [*seen, *held_out]


def disturbed(images: torch.Tensor) -> torch.Tensor:
    """Shift by up to 4 pixels, blur a third, and add noise: each generator errs in such ways."""
    right, down = (int(torch.randint(-4, 5, ())) for _ in range(2))
    images = functional.pad(images, (4, 4, 4, 4), mode="replicate")
    images = images[..., 4 + down : 132 + down, 4 + right : 132 + right]
    if torch.rand(()) < 0.35:
        images = functional.avg_pool2d(
            functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1
        )
    images = images + 0.15 * torch.rand(len(images), 1, 1, 1) * torch.randn_like(images)
    return images.clamp(-1, 1).contiguous(memory_format=torch.channels_last)


def heads_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum the cross-entropies of all heads; targets are (n, heads)."""
    losses = [
        functional.cross_entropy(logits[:, head.start : head.stop], targets[:, index])
        for index, head in enumerate(head_slices())
    ]
    return torch.stack(losses).sum()


def train(
    folder: Path, schedule: Schedule, precision: torch.dtype, batch_size: int = BATCH_SIZE
) -> nn.Module:
    """Train until `schedule.steps`; write `checkpoint.pt` and, at the end, the model itself."""
    torch.manual_seed(0)
    model = build_captioner().to(memory_format=torch.channels_last)
    optimizer = Optimizer(model.parameters())
    start = 0
    if state := load_checkpoint(folder / "checkpoint.pt"):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    progress = Progress(every_steps=25)
    for step in range(start, schedule.steps):
        torch.manual_seed(step)
        images, targets = labelled_batch(TRAIN_SEED + step, batch_size)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            logits = model(disturbed(images)).logits
        loss = heads_loss(logits.float(), targets)
        model.zero_grad()
        loss.backward()
        optimizer.step(schedule.rate(step))
        progress.record(step, loss=float(loss.detach()))
        if progress.checkpoint_due() or step + 1 == schedule.steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            save_atomically(state | {"step": step + 1}, folder / "checkpoint.pt")
    return model.eval()


def labelled_batch(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures (count, 3, 128, 128) and class numbers (count, heads)."""
    scenes = labelled_scenes(seed, count)
    images = to_tensor(np.stack([render(scene) for scene in scenes]))
    return images, torch.tensor([class_numbers(scene) for scene in scenes])


def read_pictures(model: nn.Module, images: torch.Tensor) -> list[dict[str, str]]:
    """Return the most likely class of every head for each picture."""
    with torch.inference_mode():
        logits = torch.cat([model(part).logits for part in images.split(64)])
    chosen = [logits[:, head.start : head.stop].argmax(dim=1) for head in head_slices()]
    numbers = torch.stack(chosen, dim=1).tolist()
    return [
        {head: classes[n] for (head, classes), n in zip(HEADS.items(), row, strict=True)}
        for row in numbers
    ]


def describe(labels: dict[str, str]) -> str:
    """Word what the captioner saw."""
    return canonical_caption(scene_of(labels))


def validate(model: nn.Module, count: int = 1024) -> dict[str, float]:
    """Return the accuracy of every head on fresh rendered scenes."""
    images, targets = labelled_batch(VALIDATION_SEED, count)
    reads = read_pictures(model, images)
    return {
        head: sum(
            read[head] == classes[target]
            for read, target in zip(reads, targets[:, index].tolist(), strict=True)
        )
        / count
        for index, (head, classes) in enumerate(HEADS.items())
    }


def main() -> None:
    """Parse the command line, train, validate and export in float16."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=RUNS / "captioner")
    parser.add_argument("--export", type=Path, default=RUNS / "export" / "captioner")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--decay-steps", type=int, default=900)
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    options = parser.parse_args()
    exit_without_font()
    schedule = Schedule(PEAK_RATE, options.steps, decay_steps=options.decay_steps)
    model = train(options.folder, schedule, getattr(torch, options.precision))
    print(json.dumps(validate(model)))
    model.half().save_pretrained(options.export)


if __name__ == "__main__":
    main()
