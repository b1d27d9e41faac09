"""Scenes in words: what a prompt asks for, and what a captioner with heads saw. Pure.

The words are those of the picture model's captions; subjects and colours come from the heads.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

NONE: Final = "none"
NATURAL: Final = "natural"

RELATIONS: Final = {
    "riding": ("who rides", "riding on", "riding", "on the back of"),
    "next to": ("standing next to", "next to", "beside"),
    "above": ("above", "over", "on top of"),
}
SIZES: Final = {"small": "small", "little": "small", "large": "large", "big": "large"}
COUNTS: Final = {"two": "2", "2": "2", "three": "3", "3": "3"}

_WORD: Final = re.compile(r"[^\W_]+")
_FILLERS: Final = frozenset({
    "a", "an", "the", "one", "of", "with", "and", "on", "in", "at", "against", "front",
    "picture", "image", "drawing", "photo", "emoji",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Thing:
    """A subject and its tint; None where any will do."""

    subject: str
    tint: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a prompt asks for; None where any will do. `unread` are words not looked for."""

    things: tuple[Thing, ...] = ()
    relation: str | None = None
    count: str | None = None
    size: str | None = None
    background: str | None = None
    unread: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing that is asked for could be looked for."""
        return not self.things and self.background is None


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words for what the heads tell apart: a subject by its singular and its plural."""

    singulars: frozenset[str]
    plurals: Mapping[str, str]
    tints: frozenset[str]
    backgrounds: frozenset[str]

    @classmethod
    def of(cls, heads: Mapping[str, Collection[str]]) -> "Vocabulary":
        """Take the words from the classes of the heads."""
        subjects = frozenset(heads["first_subject"])
        return cls(
            singulars=subjects,
            plurals={plural(name): name for name in subjects},
            tints=frozenset(heads["first_tint"]) - {NATURAL},
            backgrounds=frozenset(heads["background"]),
        )


def plural(noun: str) -> str:
    """Put an English noun into the plural, by its ending."""
    if noun.endswith("man"):
        return f"{noun[:-2]}en"
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if re.search(r"(s|x|z|ch|sh)$", noun) else f"{noun}s"


def read_prompt(prompt: str, words: Vocabulary) -> Asked:
    """Find what a prompt asks for, among what the heads tell apart.

    One thing is asked for alone: nobody asked for a second one, unless in words that are not read.
    Of more than two things the first two count, for no head would see a third.
    """
    text = " ".join(_WORD.findall(prompt.lower().replace("grey", "gray")))
    background, text = _taken(text, rf"({_either(words.backgrounds)}) background")
    phrase, text = _taken(text, f"({_either(_RELATION_OF)})")
    relation = _RELATION_OF[phrase] if phrase else None
    found = list(re.finditer(_thing_pattern(words), text))[:2]
    counts = [_count(each, words) for each in found]
    sizes = [SIZES[each["size"]] for each in found if each["size"]]
    unread = _unread(text, found)
    is_alone = len(found) == 1 and relation is None and not unread
    return Asked(
        things=tuple(_thing(each, words) for each in found),
        relation=NONE if is_alone else relation,
        # Of a pair there is one each, without being asked.
        count=next((count for count in counts if len(found) == 1 or count != "1"), None),
        size=next(iter(sizes), None),
        background=background,
        unread=unread,
    )


def caption(seen: Mapping[str, str]) -> str:
    """Word a scene, given the class of each head, as the captions of the picture model do."""
    first = _described(seen["first_subject"], seen["first_tint"])
    if seen["relation"] != NONE and seen["second_subject"] != NONE:
        second = _described(seen["second_subject"], seen["second_tint"])
        scene = f"{_a(first)} {seen['relation']} {_a(second)}"
    elif seen["count"] != "1":
        many = plural(seen["first_subject"])
        number = next(word for word, count in COUNTS.items() if count == seen["count"])
        scene = f"{number} {_described(many, seen['first_tint'])}"
    else:
        scene = _a(first if seen["size"] == "normal" else f"{seen['size']} {first}")
    return f"{scene} on {_a(seen['background'])} background"


_RELATION_OF: Final = {phrase: name for name, several in RELATIONS.items() for phrase in several}


def _taken(text: str, pattern: str) -> tuple[str | None, str]:
    """Take the first match out of a text, and leave a mark that keeps its sides apart."""
    match = re.search(rf"\b{pattern}\b", text)
    if match is None:
        return None, text
    return match[1], f"{text[: match.start()]}, {text[match.end() :]}"


def _thing_pattern(words: Vocabulary) -> str:
    return (
        rf"\b(?:(?P<count>{_either(COUNTS)}) )?(?:(?P<size>{_either(SIZES)}) )?"
        rf"(?:(?P<tint>{_either(words.tints)}) )?"
        rf"(?P<subject>{_either([*words.singulars, *words.plurals])})\b"
    )


def _thing(found: re.Match[str], words: Vocabulary) -> Thing:
    return Thing(words.plurals.get(found["subject"], found["subject"]), found["tint"])


def _count(found: re.Match[str], words: Vocabulary) -> str | None:
    if found["count"]:
        return COUNTS[found["count"]]
    return "1" if found["subject"] in words.singulars else None


def _unread(text: str, found: Sequence[re.Match[str]]) -> tuple[str, ...]:
    read = {word for each in found for word in each[0].split()}
    unread = [word for word in _WORD.findall(text) if word not in read | _FILLERS]
    return tuple(dict.fromkeys(unread))


def _either(words: Iterable[str]) -> str:
    # The longest first: "riding on" before "riding".
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _described(subject: str, tint: str) -> str:
    return subject if tint in (NATURAL, NONE) else f"{tint} {subject}"


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
