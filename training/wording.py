"""Word a scene in other people's words: subjects, tints, numbers, sizes, and who does what."""

import random
from typing import Final

from training import phrasebook as phrases
from training.scenes import Item, Relation, Scene
from training.synonyms import (
    COLOUR_WORDS,
    NUMBER_WORDS,
    SHADES,
    SIZE_WORDS,
    SUBJECT_WORDS,
    VEHICLES,
    plural,
)
from training.vocabulary import BY_NAME, article

UNKNOWN: Final = "something that has no emoji"
"""The subject of items that are worded as a thing the vocabulary has no neighbour for."""

_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwz", "aeiou"


def worded(scene: Scene, rng: random.Random) -> str:
    """Word the items of a scene, without its background."""
    if scene.relation is not None:
        return _related(scene, scene.relation, rng)
    if scene.count > 1:
        number = rng.choice(NUMBER_WORDS[scene.count])
        return f"{number} {_described(scene.items[0], rng, many=True)}"
    return worded_item(scene.items[0], rng, scene.size)


def worded_item(item: Item, rng: random.Random, size: str = "normal") -> str:
    """Word one item with its article."""
    sizes = SIZE_WORDS.get(size, ("",))
    words = f"{rng.choice(sizes)} {_described(item, rng)}".strip()
    lead = rng.random()
    if lead < 0.8:
        return f"{article(words)} {words}"
    if lead < 0.82:
        return f"{made_up_word(rng)}'s {words}"
    return f"{rng.choice(phrases.LEADS)} {words}" if lead < 0.92 else words


def _related(scene: Scene, relation: Relation, rng: random.Random) -> str:
    compact = rng.random() < 0.1
    first, second = (_part(scene, item, compact, rng) for item in scene.items)
    verbs, links, sentences = _wordings(relation, scene.items[1].subject)
    if rng.random() < 0.15:
        return rng.choice(sentences).format(first=first, second=second)
    link = rng.choice(links) if rng.random() < 0.45 else _conjugated(rng.choice(verbs), rng)
    return f"{first} {link} {second}"


def _part(scene: Scene, item: Item, compact: bool, rng: random.Random) -> str:
    """Word an item of a relation: one of normal size, whatever numbers and sizes the text says.

    Beside something unknown it is drawn alone, so there its size is meant.
    """
    if any(each.subject == UNKNOWN for each in scene.items):
        return worded_item(item, rng, "normal" if item.subject == UNKNOWN else scene.size)
    if compact:
        return _described(item, rng)
    if rng.random() < 0.03:
        number = rng.choice(NUMBER_WORDS[rng.choice((2, 3))])
        return f"{number} {_described(item, rng, many=True)}"
    return worded_item(item, rng, rng.choice(list(SIZE_WORDS)) if rng.random() < 0.08 else "normal")


def _wordings(
    relation: Relation, second: str
) -> tuple[tuple[phrases.Verb, ...], tuple[str, ...], tuple[str, ...]]:
    """Return verbs, links and whole sentences that suit the second subject."""
    verbs: tuple[phrases.Verb, ...]
    links: tuple[str, ...]
    if relation is Relation.RIDING:
        verbs, links = phrases.RIDING_VERBS, phrases.RIDING_PHRASES
        if second in VEHICLES:
            verbs, links = verbs + phrases.DRIVING_VERBS, links + phrases.DRIVING_PHRASES
        return verbs, links, phrases.RIDDEN_PHRASES
    if relation is Relation.NEXT_TO:
        playing = phrases.PLAYING_VERBS * 3 if second == "guitar" else ()
        return phrases.BESIDE_VERBS + playing, phrases.BESIDE_PHRASES, phrases.NEIGHBOUR_PHRASES
    verbs, links = phrases.ABOVE_VERBS, phrases.ABOVE_PHRASES
    if second in BY_NAME and BY_NAME[second].role == "thing":
        verbs, links = verbs + phrases.STANDING_VERBS, links + phrases.STANDING_PHRASES
    return verbs, links, phrases.BELOW_PHRASES


def _conjugated(verb: phrases.Verb, rng: random.Random) -> str:
    """Return one form of a verb: riding, rides, is riding, who rides, rode."""
    forms = ("{0.participle}", "{0.participle}", "{0.third}", "{0.third}", "is {0.participle}",
             "that {0.third}", "who {0.third}", "who is {0.participle}", "{0.past}",
             "was {0.participle}", "can be seen {0.participle}")  # fmt: skip
    return f"{rng.choice(forms).format(verb)} {verb.preposition}".strip()


def _described(item: Item, rng: random.Random, many: bool = False) -> str:
    name = _noun(item.subject, rng)
    name = plural(name) if many else name
    if rng.random() < 0.15:
        name = f"{_adjective(rng)} {name}"
    if item.tint is not None:
        name = _tinted(name, colour_word(item.tint, rng), many, rng)
    return f"{_adjective(rng)} {name}" if rng.random() < 0.08 else name


def _tinted(name: str, tint: str, many: bool, rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.84:
        return f"{tint} {name}"
    if draw < 0.92:
        return f"{tint}{rng.choice(('-coloured', '-colored', ' coloured', ' colored'))} {name}"
    if draw < 0.94:
        return f"{tint} and white {name}"
    after = rng.choice(("that {be} {0}", "which {be} {0}", "painted {0}", "in {0}"))
    return f"{name} {after.format(tint, be='are' if many else 'is')}"


def _noun(subject: str, rng: random.Random) -> str:
    if subject == UNKNOWN:
        return rng.choice(phrases.NOUNS) if rng.random() < 0.6 else made_up_word(rng)
    return rng.choice(SUBJECT_WORDS[subject]) if rng.random() < 0.6 else subject


def _adjective(rng: random.Random) -> str:
    return made_up_word(rng) if rng.random() < 0.15 else rng.choice(phrases.ADJECTIVES)


def colour_word(colour: str, rng: random.Random) -> str:
    """Return a word for a colour, perhaps with its shade."""
    word = rng.choice(COLOUR_WORDS[colour]) if rng.random() < 0.55 else colour
    # "Dark" alone is black, and a light black would be gray.
    shaded = colour not in ("black", "white", "gray") and rng.random() < 0.1
    return f"{rng.choice(SHADES)} {word}" if shaded else word


def made_up_word(rng: random.Random) -> str:
    """Return a word that nobody knows, of two to four syllables."""
    syllables = (
        rng.choice(_CONSONANTS) + rng.choice(_VOWELS) + rng.choice(("", "", *_CONSONANTS))
        for _ in range(rng.randint(2, 4))
    )
    return "".join(syllables)
