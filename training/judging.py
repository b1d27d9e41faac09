"""Decide which prompts are judged, and whether a picture shows what its prompt asked."""

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from training.captions import caption
from training.labels import labels_of
from training.scenes import Relation, Scene, sample_scenes

PROMPT_SEED = 3_000_017
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
        kinds.append((f"{name}_seen", False, partial(_has, relation)))
        kinds.append((f"{name}_held_out", True, partial(_has, relation)))
    return [
        prompt
        for index, (group, held_out, fits) in enumerate(kinds)
        for prompt in _prompts(group, PROMPT_SEED + index, held_out, fits, per_group)
    ]


def _has(relation: Relation, scene: Scene) -> bool:
    return scene.relation is relation


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
