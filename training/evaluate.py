"""Measure how often the pictures show what was asked, by a judge that never saw a generated one.

Run `python -m training.evaluate --model FOLDER --judge FOLDER`. Prompts and noise are fixed by
seeds. The judge also reads rendered scenes of the same prompts: its own error stands beside.
"""

import argparse
import itertools
import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoPipelineForText2Image
from torch import nn
from transformers import ResNetForImageClassification

from training.autoencoder import to_tensor
from training.captioner import read_pictures
from training.captions import caption
from training.labels import labels_of
from training.scenes import Relation, Scene, render, sample_scenes
from training.sheet import contact_sheet, generate

PROMPT_SEED = 3_000_017
NOISE_SEED = 40_000
PER_GROUP = 40


@dataclass(frozen=True, slots=True)
class Prompt:
    """Keep a prompt with the scene that it words and the group that it belongs to."""

    group: str
    scene: Scene
    text: str


def evaluation_prompts(per_group: int = PER_GROUP) -> list[Prompt]:
    """Return `per_group` prompts of each of nine groups; three of them are held out."""
    kinds: list[tuple[str, bool, Callable[[Scene], bool]]] = [
        ("single", False, lambda s: s.relation is None and s.count == 1 and s.size == "normal"),
        ("sized", False, lambda s: s.relation is None and s.count == 1 and s.size != "normal"),
        ("counted", False, lambda s: s.count > 1),
    ]
    for relation in Relation:
        name = str(relation).replace(" ", "_")
        kinds.append((f"{name}_seen", False, lambda s, r=relation: s.relation is r))  # type: ignore[misc]
        kinds.append((f"{name}_held_out", True, lambda s, r=relation: s.relation is r))  # type: ignore[misc]
    return [
        prompt
        for index, (group, held_out, fits) in enumerate(kinds)
        for prompt in _prompts(group, PROMPT_SEED + index, held_out, fits, per_group)
    ]


def _prompts(
    group: str, seed: int, held_out: bool, fits: Callable[[Scene], bool], count: int
) -> Iterable[Prompt]:
    rng = random.Random(seed)
    scenes = (scene for scene in sample_scenes(seed, held_out) if fits(scene))
    return [Prompt(group, scene, caption(scene, rng)) for scene in itertools.islice(scenes, count)]


def verdict(scene: Scene, read: dict[str, str]) -> dict[str, bool]:
    """Compare what the judge read with what the scene asked, per category that applies.

    "A next to B" has no order, so the judge may name B first.
    """
    asked = labels_of(scene)
    if scene.relation is Relation.NEXT_TO and read["first_subject"] != asked["first_subject"]:
        read = _swapped(read)
    sides = ("first", "second") if scene.relation else ("first",)
    right = {
        "subject": all(read[f"{side}_subject"] == asked[f"{side}_subject"] for side in sides),
        "background": read["background"] == asked["background"],
    }
    tinted = [f"{s}_tint" for s, item in zip(sides, scene.items, strict=True) if item.tint]
    if tinted:
        right["colour"] = all(read[head] == asked[head] for head in tinted)
    right["relation" if scene.relation else "count"] = read["relation"] == asked["relation"] and (
        scene.relation is not None or read["count"] == asked["count"]
    )
    return right | {"everything": all(right.values())}


def _swapped(read: dict[str, str]) -> dict[str, str]:
    swapped = dict(read)
    for label in ("subject", "tint"):
        swapped[f"first_{label}"] = read[f"second_{label}"]
        swapped[f"second_{label}"] = read[f"first_{label}"]
    return swapped


def shares(prompts: Sequence[Prompt], reads: Sequence[dict[str, str]]) -> dict[str, object]:
    """Return the share of right answers per category: overall, seen, held out, and per group."""
    verdicts = [verdict(p.scene, read) for p, read in zip(prompts, reads, strict=True)]
    table: dict[str, list[int]] = {}
    for prompt, right in zip(prompts, verdicts, strict=True):
        is_pair = prompt.scene.relation is not None
        split = "held_out_pairs" if prompt.group.endswith("held_out") else "seen_pairs"
        for where in ["all", prompt.group] + ([split] if is_pair else []):
            for category, is_right in right.items():
                cell = table.setdefault(f"{where}/{category}", [0, 0])
                cell[0] += is_right
                cell[1] += 1
    result: dict[str, dict[str, object]] = {}
    for key, (good, total) in table.items():
        where, category = key.split("/")
        result.setdefault(where, {})[category] = {"share": round(good / total, 4), "of": total}
    return dict(result)


def evaluate(model: Path, judge: nn.Module, per_group: int, output: Path) -> dict[str, object]:
    """Generate every prompt, let the judge read the pictures, and return the report."""
    prompts = evaluation_prompts(per_group)
    rendered = np.stack([render(prompt.scene) for prompt in prompts])
    pipeline = AutoPipelineForText2Image.from_pretrained(model, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    settings = json.loads((model / "generation_config.json").read_text())
    names = ("num_inference_steps", "guidance_scale")
    began = time.perf_counter()
    images = generate(
        pipeline, [p.text for p in prompts], NOISE_SEED, **{name: settings[name] for name in names}
    )
    seconds = time.perf_counter() - began
    contact_sheet(images, columns=20).save(output.with_suffix(".png"))
    made = np.stack([np.asarray(image) for image in images])
    return {
        "prompts": len(prompts),
        "seconds_per_picture_in_batches": round(seconds / len(prompts), 3),
        "settings": {name: settings[name] for name in names},
        "generated": shares(prompts, read_pictures(judge, to_tensor(made))),
        "judge_on_rendered": shares(prompts, read_pictures(judge, to_tensor(rendered))),
    }


def main() -> None:
    """Parse the command line, evaluate, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("training/runs/export/text2image"))
    parser.add_argument("--judge", type=Path, default=Path("training/runs/export/captioner"))
    parser.add_argument("--output", type=Path, default=Path("training/runs/evaluation.json"))
    parser.add_argument("--per-group", type=int, default=PER_GROUP)
    options = parser.parse_args()
    judge = ResNetForImageClassification.from_pretrained(options.judge, dtype=torch.float32)
    report = evaluate(options.model, judge.eval(), options.per_group, options.output)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    for source in ("generated", "judge_on_rendered"):
        print(source, json.dumps(report[source]["all"]))  # type: ignore[index]


if __name__ == "__main__":
    main()
