"""Make up emoji scenes and render them: structured labels first, pixels second.

A scene is plain data; `render` is a pure function of it, so a seed fixes every picture. All
positions lie on an 8-pixel grid, the stride of the autoencoder: the same glyph then always meets
the latent grid at the same phase, which is the cheapest variety for a small training budget.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.places import FONT, require_font
from training.vocabulary import (
    BACKGROUNDS,
    BY_NAME,
    MOUNTS,
    RIDERS,
    SIZES,
    SUBJECTS,
    TINTS,
    Subject,
)

PICTURE_PIXELS = 128
GRID_PIXELS = 8
DEFAULT_BACKGROUND = "white"
# The bitmap strikes of Noto Color Emoji (OFL 1.1) exist at this size only.
FONT_PIXELS = 109
HELD_OUT_PERCENT = 8


class Relation(StrEnum):
    """Say how the two items of a scene stand to each other."""

    RIDING = "riding"
    NEXT_TO = "next to"
    ABOVE = "above"


@dataclass(frozen=True, slots=True)
class Item:
    """Name a subject and its tint; a tint of None keeps the emoji's own colours."""

    subject: str
    tint: str | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Describe a picture completely.

    One item with `count` 1, 2 or 3, or two items with a `relation`. A `background` of None is
    not mentioned in the caption and renders as `DEFAULT_BACKGROUND`. `shift` moves the whole
    group, in grid cells (right, down).
    """

    items: tuple[Item, ...]
    count: int = 1
    size: str = "normal"
    relation: Relation | None = None
    background: str | None = None
    shift: tuple[int, int] = (0, 0)

    @property
    def seen_background(self) -> str:
        """Name the colour that is visible behind the items."""
        return self.background or DEFAULT_BACKGROUND


HEADLINE = Scene((Item("astronaut"), Item("horse", "green")), relation=Relation.RIDING)


def is_held_out(scene: Scene) -> bool:
    """Tell whether the scene's subject-colour-relation combination is kept from training.

    A combination is (first subject, its tint, relation, second subject, its tint). The headline
    prompt is always held out, for any background.
    """
    if scene.relation is None:
        return False
    if scene.items == HEADLINE.items and scene.relation is HEADLINE.relation:
        return True
    first, second = scene.items
    key = f"{first.subject}|{scene.relation}|{second.tint}|{second.subject}"
    return hashlib.sha256(key.encode()).digest()[0] % 100 < HELD_OUT_PERCENT


def sample_scenes(seed: int, held_out: bool = False) -> Iterator[Scene]:
    """Yield scenes for ever, all of them inside or all outside the held-out set."""
    rng = random.Random(seed)
    while True:
        scene = sample_scene(rng, pairs_only=held_out)
        if is_held_out(scene) == held_out:
            yield scene


def sample_scene(rng: random.Random, pairs_only: bool = False) -> Scene:
    """Draw one scene: 25 % single, 20 % counted, 30 % riding, 25 % the other relations."""
    background = rng.choice(list(BACKGROUNDS)) if rng.random() < 0.6 else None
    kind = rng.random() * 0.55 + 0.45 if pairs_only else rng.random()
    if kind < 0.45:
        return _sample_alike(rng, background, count=1 if kind < 0.25 else rng.choice((2, 3)))
    if kind < 0.75:
        return _sample_riding(rng, background)
    return _sample_apart(rng, background, rng.choice((Relation.NEXT_TO, Relation.ABOVE)))


def _sample_alike(rng: random.Random, background: str | None, count: int) -> Scene:
    size = rng.choice(("small", "normal", "normal", "large")) if count == 1 else "normal"
    item = _sample_item(rng, rng.choice(SUBJECTS), background)
    return Scene((item,), count, size, None, background, _sample_shift(rng, 1, 1))


def _sample_riding(rng: random.Random, background: str | None) -> Scene:
    rider, mount = rng.choice(RIDERS), rng.choice(MOUNTS)
    if rng.random() < 0.1:
        rider, mount = rng.sample(RIDERS + MOUNTS, 2)
    items = (
        _sample_item(rng, rider, background, tinted=0.3),
        _sample_item(rng, mount, background, tinted=0.7),
    )
    return Scene(items, 1, "normal", Relation.RIDING, background, _sample_shift(rng, 1, 0))


def _sample_apart(rng: random.Random, background: str | None, relation: Relation) -> Scene:
    first, second = rng.sample(SUBJECTS, 2)
    items = (_sample_item(rng, first, background), _sample_item(rng, second, background))
    if relation is Relation.NEXT_TO:
        return Scene(items, 1, "normal", relation, background, _sample_shift(rng, 0, 1))
    return Scene(items, 1, "normal", relation, background, _sample_shift(rng, 1, 0))


def _sample_item(
    rng: random.Random, subject: Subject, background: str | None, tinted: float = 0.5
) -> Item:
    if rng.random() >= tinted:
        return Item(subject.name)
    allowed = [tint for tint in TINTS if tint != (background or DEFAULT_BACKGROUND)]
    return Item(subject.name, rng.choice(allowed))


def _sample_shift(rng: random.Random, right: int, down: int) -> tuple[int, int]:
    return rng.randint(-right, right), rng.randint(-down, down)


@dataclass(frozen=True, slots=True)
class Placement:
    """Put a sprite's square box at (left, top), in pixels."""

    item: Item
    edge: int
    left: int
    top: int


def layout(scene: Scene) -> list[Placement]:
    """Return the sprites of a scene from back to front."""
    right, down = (cells * GRID_PIXELS for cells in scene.shift)
    return [
        Placement(item, edge, left + right, top + down) for item, edge, left, top in _boxes(scene)
    ]


def _boxes(scene: Scene) -> list[tuple[Item, int, int, int]]:
    if scene.relation is None:
        return [(scene.items[0], *box) for box in _alike_boxes(scene)]
    first, second = scene.items
    medium, normal = SIZES["medium"], SIZES["normal"]
    if scene.relation is Relation.RIDING:
        return [(second, normal, 24, 48), (first, medium, 40, _seat(second) - medium)]
    if scene.relation is Relation.NEXT_TO:
        return [(first, medium, 8, 40), (second, medium, 64, 40)]
    return [(first, medium, 40, 8), (second, medium, 40, 64)]


def _alike_boxes(scene: Scene) -> list[tuple[int, int, int]]:
    if scene.count == 1:
        edge = SIZES[scene.size]
        corner = (PICTURE_PIXELS - edge) // 2 // GRID_PIXELS * GRID_PIXELS
        return [(edge, corner, corner)]
    if scene.count == 2:
        return [(SIZES["medium"], left, 40) for left in (8, 64)]
    small = SIZES["small"]
    return [(small, 8, 64), (small, 72, 64), (small, 40, 16)]


def _seat(mount: Item) -> int:
    """Return how far down, in pixels, a rider reaches: well over the mount's back."""
    height = int(sprite(mount, SIZES["normal"])[..., 3].any(axis=1).sum())
    floor = 48 + SIZES["normal"]
    return (floor - height + max(20, height // 3)) // GRID_PIXELS * GRID_PIXELS


def render(scene: Scene) -> np.ndarray:
    """Return the picture as uint8 (128, 128, 3), RGB."""
    canvas = np.empty((PICTURE_PIXELS, PICTURE_PIXELS, 3), np.uint8)
    canvas[:] = BACKGROUNDS[scene.seen_background]
    for placement in layout(scene):
        _paste(canvas, placement)
    return canvas


def _paste(canvas: np.ndarray, placement: Placement) -> None:
    pixels = sprite(placement.item, placement.edge).astype(np.uint16)
    rows = slice(placement.top, placement.top + placement.edge)
    columns = slice(placement.left, placement.left + placement.edge)
    colour, alpha = pixels[..., :3], pixels[..., 3:]
    blended = (colour * alpha + canvas[rows, columns] * (255 - alpha) + 127) // 255
    canvas[rows, columns] = blended.astype(np.uint8)


@lru_cache(maxsize=4096)
def sprite(item: Item, edge: int) -> np.ndarray:
    """Return the tinted glyph as uint8 (edge, edge, 4), standing on the box's lower edge."""
    glyph = _glyph(BY_NAME[item.subject].emoji)
    scale = edge / max(glyph.size)
    width, height = (max(1, round(length * scale)) for length in glyph.size)
    # Premultiplied alpha ("RGBa") keeps transparent pixels from bleeding into the edges.
    small = glyph.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS)
    box = Image.new("RGBA", (edge, edge))
    box.paste(small.convert("RGBA"), ((edge - width) // 2, edge - height))
    pixels = np.array(box)
    return pixels if item.tint is None else _tinted(pixels, item.tint)


def _tinted(pixels: np.ndarray, tint: str) -> np.ndarray:
    luminance = pixels[..., :3] @ np.array([0.299, 0.587, 0.114]) / 255
    opaque = pixels[..., 3] > 128
    low, middle, high = np.percentile(luminance[opaque], (3, 50, 97))
    dark, light = min(low, middle - 0.1), max(high, middle + 0.2)
    luminance = np.interp(luminance, (dark, middle, light), (0, 0.5, 1))
    stops = np.array(TINTS[tint], np.float64)
    channels = [np.interp(luminance, (0, 0.5, 1), stops[:, c]) for c in range(3)]
    return np.dstack([*channels, pixels[..., 3]]).round().astype(np.uint8)


@lru_cache(maxsize=128)
def _glyph(emoji: str) -> Image.Image:
    require_font()
    font = ImageFont.truetype(str(FONT), FONT_PIXELS)
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((12, 12), emoji, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"the emoji font has no glyph for {emoji!r}")
    return canvas.crop(box)
