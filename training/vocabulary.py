"""Hold the closed vocabulary of emoji scenes: subjects, tints, backgrounds, sizes, numbers."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["rider", "mount", "thing"]
Rgb = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Subject:
    """Name one emoji; `role` says where it may sit in a "riding" scene."""

    name: str
    plural: str
    emoji: str
    role: Role


def _subject(name: str, emoji: str, role: Role, plural: str = "") -> Subject:
    return Subject(name, plural or f"{name}s", emoji, role)


SUBJECTS: tuple[Subject, ...] = (
    _subject("astronaut", "\U0001f9d1\u200d\U0001f680", "rider"),
    _subject("robot", "\U0001f916", "rider"),
    _subject("cat", "\U0001f408", "rider"),
    _subject("dog", "\U0001f415", "rider"),
    _subject("monkey", "\U0001f412", "rider"),
    _subject("penguin", "\U0001f427", "rider"),
    _subject("frog", "\U0001f438", "rider"),
    _subject("alien", "\U0001f47d", "rider"),
    _subject("ghost", "\U0001f47b", "rider"),
    _subject("panda", "\U0001f43c", "rider"),
    _subject("rabbit", "\U0001f407", "rider"),
    _subject("owl", "\U0001f989", "rider"),
    _subject("wizard", "\U0001f9d9", "rider"),
    _subject("snowman", "\u26c4", "rider", "snowmen"),
    _subject("horse", "\U0001f40e", "mount"),
    _subject("dragon", "\U0001f409", "mount"),
    _subject("elephant", "\U0001f418", "mount"),
    _subject("whale", "\U0001f40b", "mount"),
    _subject("turtle", "\U0001f422", "mount"),
    _subject("camel", "\U0001f42a", "mount"),
    _subject("pig", "\U0001f416", "mount"),
    _subject("cow", "\U0001f404", "mount"),
    _subject("tiger", "\U0001f405", "mount"),
    _subject("dinosaur", "\U0001f995", "mount"),
    _subject("snail", "\U0001f40c", "mount"),
    _subject("bicycle", "\U0001f6b2", "mount"),
    _subject("car", "\U0001f697", "mount"),
    _subject("tractor", "\U0001f69c", "mount"),
    _subject("boat", "\u26f5", "mount"),
    _subject("rocket", "\U0001f680", "mount"),
    _subject("house", "\U0001f3e0", "thing"),
    _subject("tree", "\U0001f333", "thing"),
    _subject("castle", "\U0001f3f0", "thing"),
    _subject("cactus", "\U0001f335", "thing", "cactuses"),
    _subject("mushroom", "\U0001f344", "thing"),
    _subject("apple", "\U0001f34e", "thing"),
    _subject("pizza", "\U0001f355", "thing"),
    _subject("cake", "\U0001f382", "thing"),
    _subject("guitar", "\U0001f3b8", "thing"),
    _subject("star", "\u2b50", "thing"),
    _subject("balloon", "\U0001f388", "thing"),
    _subject("butterfly", "\U0001f98b", "thing", "butterflies"),
)

# A tint maps a glyph's luminance onto shadow -> middle -> light.
TINTS: dict[str, tuple[Rgb, Rgb, Rgb]] = {
    "red": ((70, 0, 0), (215, 35, 35), (255, 190, 180)),
    "orange": ((90, 35, 0), (245, 130, 20), (255, 220, 170)),
    "yellow": ((110, 80, 0), (245, 205, 20), (255, 250, 190)),
    "green": ((0, 55, 10), (40, 165, 60), (195, 250, 190)),
    "blue": ((0, 15, 90), (40, 95, 225), (190, 220, 255)),
    "purple": ((45, 0, 80), (135, 60, 190), (225, 195, 250)),
    "pink": ((120, 0, 70), (250, 105, 180), (255, 215, 235)),
    "brown": ((40, 18, 5), (130, 80, 40), (215, 180, 145)),
    "gray": ((35, 35, 40), (135, 135, 140), (225, 225, 228)),
    "black": ((0, 0, 0), (38, 38, 42), (125, 125, 130)),
}

BACKGROUNDS: dict[str, Rgb] = {
    "white": (255, 255, 255),
    "black": (22, 22, 26),
    "gray": (176, 178, 182),
    "red": (240, 112, 104),
    "orange": (250, 178, 96),
    "yellow": (252, 234, 120),
    "green": (150, 218, 140),
    "blue": (138, 190, 246),
    "purple": (190, 152, 232),
    "pink": (252, 186, 216),
}

# Edge of a sprite's square box, in pixels of a 128-pixel picture.
SIZES: dict[str, int] = {"small": 48, "medium": 56, "normal": 80, "large": 112}
SIZE_WORDS: dict[str, tuple[str, ...]] = {"small": ("small", "little"), "large": ("large", "big")}
NUMBER_WORDS: dict[int, tuple[str, ...]] = {2: ("two", "2"), 3: ("three", "3")}

BY_NAME: dict[str, Subject] = {subject.name: subject for subject in SUBJECTS}
RIDERS: tuple[Subject, ...] = tuple(s for s in SUBJECTS if s.role == "rider")
MOUNTS: tuple[Subject, ...] = tuple(s for s in SUBJECTS if s.role == "mount")


def article(words: str) -> str:
    """Return "a" or "an" for the words that follow."""
    return "an" if words[0] in "aeiou" else "a"
