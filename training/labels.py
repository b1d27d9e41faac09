"""Turn scenes into class numbers for the captioner's heads, and back."""

from dataclasses import dataclass

from training.scenes import Item, Relation, Scene
from training.vocabulary import BACKGROUNDS, SUBJECTS, TINTS

NONE = "none"
NATURAL = "natural"
_NAMES = tuple(subject.name for subject in SUBJECTS)
_TINTS = (NATURAL, *TINTS)

# Every head's classes, in the order of the captioner's logits.
HEADS: dict[str, tuple[str, ...]] = {
    "first_subject": _NAMES,
    "first_tint": _TINTS,
    "second_subject": (NONE, *_NAMES),
    "second_tint": (NONE, *_TINTS),
    "background": tuple(BACKGROUNDS),
    "count": ("1", "2", "3"),
    "relation": (NONE, *(str(relation) for relation in Relation)),
    "size": ("small", "normal", "large"),
}


@dataclass(frozen=True, slots=True)
class HeadSlice:
    """Locate a head's logits in the captioner's output."""

    name: str
    start: int
    stop: int


def head_slices() -> list[HeadSlice]:
    """Return where each head lies among the logits."""
    slices, start = [], 0
    for name, classes in HEADS.items():
        slices.append(HeadSlice(name, start, start + len(classes)))
        start += len(classes)
    return slices


def logit_names() -> list[str]:
    """Name every logit as head:class."""
    return [f"{head}:{name}" for head, classes in HEADS.items() for name in classes]


def labels_of(scene: Scene) -> dict[str, str]:
    """Return the class of every head for a scene."""
    first = scene.items[0]
    second = scene.items[1] if scene.relation else None
    return {
        "first_subject": first.subject,
        "first_tint": first.tint or NATURAL,
        "second_subject": second.subject if second else NONE,
        "second_tint": (second.tint or NATURAL) if second else NONE,
        "background": scene.seen_background,
        "count": str(scene.count),
        "relation": str(scene.relation) if scene.relation else NONE,
        "size": scene.size,
    }


def class_numbers(scene: Scene) -> list[int]:
    """Return the class number of every head, in the order of `HEADS`."""
    labels = labels_of(scene)
    return [classes.index(labels[head]) for head, classes in HEADS.items()]


def scene_of(labels: dict[str, str]) -> Scene:
    """Return the scene that labels describe; heads that do not apply are ignored."""
    items = [_item(labels["first_subject"], labels["first_tint"])]
    background = labels["background"]
    if labels["relation"] == NONE or labels["second_subject"] == NONE:
        count = int(labels["count"])
        size = labels["size"] if count == 1 else "normal"
        return Scene(tuple(items), count, size, None, background)
    items.append(_item(labels["second_subject"], labels["second_tint"]))
    return Scene(tuple(items), 1, "normal", Relation(labels["relation"]), background)


def _item(subject: str, tint: str) -> Item:
    return Item(subject, None if tint in (NATURAL, NONE) else tint)
