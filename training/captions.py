"""Word scenes as captions, in several phrasings and letter cases."""

import random
import re
from collections.abc import Iterable
from functools import cache

from training.scenes import Item, Relation, Scene
from training.vocabulary import (
    BACKGROUNDS,
    BY_NAME,
    NUMBER_WORDS,
    SIZE_WORDS,
    SUBJECTS,
    TINTS,
    article,
)

RELATION_PHRASES: dict[Relation, tuple[str, ...]] = {
    Relation.RIDING: ("riding", "riding", "riding", "riding on", "who rides", "on the back of"),
    Relation.NEXT_TO: ("next to", "next to", "beside", "standing next to"),
    Relation.ABOVE: ("above", "above", "over", "on top of"),
}
OPENINGS = ("", "", "", "", "a picture of ", "an image of ", "a drawing of ", "an emoji of ")
BACKGROUND_PHRASES = (
    " on {article} {colour} background",
    " on {article} {colour} background",
    " against {article} {colour} background",
    " with {article} {colour} background",
    " in front of {article} {colour} background",
    ", {colour} background",
)


def canonical_caption(scene: Scene) -> str:
    """Return the one plain caption that names everything a scene asks for, in lower case."""
    text = _group(scene, random.Random(0), plain=True)
    if scene.background is None:
        return text
    return f"{text} on {article(scene.background)} {scene.background} background"


def caption(scene: Scene, rng: random.Random) -> str:
    """Return one of the scene's wordings, in one of several cases."""
    text = rng.choice(OPENINGS) + _group(scene, rng)
    if scene.background is not None:
        phrase = rng.choice(BACKGROUND_PHRASES)
        text += phrase.format(article=article(scene.background), colour=scene.background)
    return _cased(_spelled(text, rng), rng)


def _group(scene: Scene, rng: random.Random, plain: bool = False) -> str:
    if scene.relation is not None:
        phrase = str(scene.relation) if plain else rng.choice(RELATION_PHRASES[scene.relation])
        first, second = (_one(item) for item in scene.items)
        return f"{first} {phrase} {second}"
    if scene.count > 1:
        number = NUMBER_WORDS[scene.count][0 if plain or rng.random() < 0.8 else 1]
        return f"{number} {_described(scene.items[0], plural=True)}"
    sizes = SIZE_WORDS.get(scene.size, ("",))
    return _one(scene.items[0], sizes[0] if plain else rng.choice(sizes))


def _one(item: Item, size: str = "") -> str:
    words = f"{size} {_described(item)}".strip()
    return f"{article(words)} {words}"


def _described(item: Item, plural: bool = False) -> str:
    subject = BY_NAME[item.subject]
    name = subject.plural if plural else subject.name
    return f"{item.tint} {name}" if item.tint else name


def _spelled(text: str, rng: random.Random) -> str:
    return text.replace("gray", "grey") if rng.random() < 0.3 else text


def _cased(text: str, rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.5:
        return text
    if draw < 0.85:
        return text[0].upper() + text[1:] + ("." if rng.random() < 0.3 else "")
    return text.title() if draw < 0.93 else text.upper()


def known_words() -> list[str]:
    """Return every word that captions are made of, in lower case and in order."""
    phrases = [*OPENINGS, *BACKGROUND_PHRASES, "a", "an", "gray", "grey"]
    phrases += [phrase for several in RELATION_PHRASES.values() for phrase in several]
    phrases += [word for several in SIZE_WORDS.values() for word in several]
    phrases += [word for several in NUMBER_WORDS.values() for word in several]
    phrases += [*TINTS, *BACKGROUNDS]
    phrases += [name for subject in SUBJECTS for name in (subject.name, subject.plural)]
    text = " ".join(phrases).replace("{article}", "").replace("{colour}", "").replace(",", "")
    return sorted(set(text.split()))


def is_caption(text: str) -> bool:
    """Say whether a text is worded as `canonical_caption` words scenes, articles included."""
    return _grammar().fullmatch(text) is not None


@cache
def _grammar() -> re.Pattern[str]:
    def either(words: Iterable[str]) -> str:
        return f"(?:{'|'.join(map(re.escape, words))})"

    an, tint = r"(?:an (?=[aeiou])|a (?![aeiou]))", f"(?:{either(TINTS)} )?"
    size = either(words[0] for words in SIZE_WORDS.values())
    one = f"{an}{tint}{either(BY_NAME)}"
    sized = f"{an}{size} {tint}{either(BY_NAME)}"
    counted = f"{either(words[0] for words in NUMBER_WORDS.values())} {tint}" + either(
        subject.plural for subject in SUBJECTS
    )
    pair = f"{one} {either(Relation)} {one}"
    background = f"(?: on {an}{either(BACKGROUNDS)} background)?"
    return re.compile(f"(?:{one}|{sized}|{counted}|{pair}){background}")
