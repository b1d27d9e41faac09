"""The words that a small model knows, where its checkpoint says so."""

import re
from collections.abc import Collection
from typing import Final

MAX_NAMED_WORDS: Final = 8

_WORD: Final = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def unknown_words_warning(prompt: str, vocabulary: Collection[str]) -> str | None:
    """Name the words of a prompt that the model never saw; None where it knows them all.

    An empty vocabulary belongs to a model that takes any text.
    """
    if not vocabulary:
        return None
    unknown = [word for word in _words(prompt) if word not in vocabulary]
    if not unknown and _words(prompt):
        return None
    named = ", ".join(unknown[:MAX_NAMED_WORDS]) or "this text"
    more = " …" if len(unknown) > MAX_NAMED_WORDS else ""
    return f"prompt: the demo model does not know {named}{more}; it draws scenes of emoji"


def _words(prompt: str) -> list[str]:
    return list(dict.fromkeys(_WORD.findall(prompt.lower())))
