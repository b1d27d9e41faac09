"""Measure the three shipped models, and write what was found to `training/reports`.

Run `python -m training.evaluate`; options name other models. Prompts, scenes and noise are fixed by
seeds and torch uses one thread, so a second run writes the same reports. The judge of pictures
never saw a generated one; it also reads rendered scenes of the same prompts, so that its own errors
stand beside.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import nn
from transformers import ResNetForImageClassification

from training.autoencoder import to_tensor
from training.captioner import read_pictures, validate
from training.judging import PER_GROUP, evaluation_prompts, shares
from training.places import (
    CAPTIONER,
    PROMPT_WRITER,
    REPORTS,
    RUNS,
    TEXT2IMAGE,
    exit_without_font,
)
from training.scenes import render
from training.shared import single_threaded
from training.sheet import contact_sheet, generate
from training.writing import Writer, report

NOISE_SEED = 40_000
SCENES = 1024


def load_judge(folder: Path) -> nn.Module:
    """Load an exported captioner; nothing is fetched."""
    judge = ResNetForImageClassification.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    return judge.eval()


def evaluate_text2image(
    model: Path, judge: nn.Module, per_group: int, pictures: Path
) -> dict[str, object]:
    """Generate every prompt, keep the pictures in one file, and let the judge read them."""
    prompts = evaluation_prompts(per_group)
    rendered = np.stack([render(prompt.scene) for prompt in prompts])
    pipeline = DiffusionPipeline.from_pretrained(model, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    defaults = json.loads((model / "generation_config.json").read_text())
    settings = {name: defaults[name] for name in ("num_inference_steps", "guidance_scale")}
    images = generate(pipeline, [prompt.text for prompt in prompts], NOISE_SEED, **settings)
    pictures.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(images, columns=20).save(pictures)
    made = np.stack([np.asarray(image) for image in images])
    return {
        "prompts": len(prompts),
        "settings": settings,
        "generated": shares(prompts, read_pictures(judge, to_tensor(made))),
        "judge_on_rendered": shares(prompts, read_pictures(judge, to_tensor(rendered))),
    }


def evaluate_captioner(judge: nn.Module, count: int = SCENES) -> dict[str, object]:
    """Let the judge read fresh rendered scenes."""
    accuracy = {head: round(share, 4) for head, share in validate(judge, count).items()}
    return {"scenes": count, "accuracy": accuracy}


def _write(report: dict[str, object], path: Path, began: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{path} after {time.perf_counter() - began:.0f} s", flush=True)


def main() -> None:
    """Parse the command line, evaluate, and write the reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text2image", type=Path, default=TEXT2IMAGE)
    parser.add_argument("--captioner", type=Path, default=CAPTIONER)
    parser.add_argument("--prompt-writer", type=Path, default=PROMPT_WRITER)
    parser.add_argument("--reports", type=Path, default=REPORTS)
    parser.add_argument("--pictures", type=Path, default=RUNS / "evaluation.png")
    parser.add_argument("--per-group", type=int, default=PER_GROUP)
    options = parser.parse_args()
    exit_without_font()
    began = time.perf_counter()
    judge = load_judge(options.captioner)
    reports: dict[str, Callable[[], dict[str, object]]] = {
        "captioner": lambda: evaluate_captioner(judge),
        "prompt-writer": lambda: report(Writer.load(options.prompt_writer)),
        "text2image": lambda: evaluate_text2image(
            options.text2image, judge, options.per_group, options.pictures
        ),
    }
    # Two threads add up in another order than one, and the pictures differ by a bit here and there.
    with single_threaded():
        for name, make in reports.items():
            _write(make(), options.reports / f"{name}-evaluation.json", began)
    print(f"the pictures are in {options.pictures}")


if __name__ == "__main__":
    main()
