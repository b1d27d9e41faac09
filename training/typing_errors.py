"""Misspell a word the way fingers do."""

import random
from functools import cache

from training.synonyms import COLOUR_WORDS, SUBJECT_WORDS

SHORTEST = 5
"""Letters that a word needs to stay readable with one of them wrong."""


def with_typing_error(text: str, rng: random.Random) -> str:
    """Return the text with one long word misspelt, or as it is where it has none."""
    words = text.split(" ")
    places = [n for n, word in enumerate(words) if len(word) >= SHORTEST and word.isalpha()]
    if not places:
        return text
    place = rng.choice(places)
    wrong = misspelt(words[place], rng)
    # "Moth" is no way to write "mother", for it means something else.
    words[place] = words[place] if wrong in _vocabulary() else wrong
    return " ".join(words)


def misspelt(word: str, rng: random.Random) -> str:
    """Drop, double or swap letters; the first stays, for it is rarely wrong."""
    place = rng.randrange(1, len(word) - 1)
    kind = rng.choice(("drop", "double", "swap"))
    if kind == "drop":
        return word[:place] + word[place + 1 :]
    if kind == "double":
        return word[:place] + word[place] + word[place:]
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


@cache
def _vocabulary() -> frozenset[str]:
    lists = (*SUBJECT_WORDS.values(), *COLOUR_WORDS.values())
    return frozenset({*SUBJECT_WORDS, *COLOUR_WORDS, *(word for words in lists for word in words)})
