"""Words and phrases in a text, found as whole words in time linear in the text. Pure.

Where a script writes no spaces between words (Chinese, Japanese, Thai, Khmer, Lao, Burmese), every
character is a word of its own, so that a phrase is found inside of a sentence.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import regex  # type: ignore[import-untyped,unused-ignore]

from orchestrator_example.services.guard_text import Reading, folded, plain

_UNSPACED: Final = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD: Final = regex.compile(
    rf"[{_UNSPACED}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+", regex.VERSION1
)
_PHRASE: Final = regex.compile(r"[\p{L}\p{M}\p{N}\p{Cf}\s'’_-]+", regex.VERSION1)


@dataclass(frozen=True, slots=True)
class Found:
    """Entry `index` of a list stands at these characters of the original text."""

    index: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a reading, with where they stand in the original text."""

    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, reading: Reading) -> "Words":
        """Split a reading."""
        matches = list(_WORD.finditer(reading.text))
        spans = tuple(reading.original_span(*each.span()) for each in matches)
        return cls(tuple(each.group() for each in matches), spans)


def phrase_of(entry: str) -> str:
    """Check an entry of a list. Raises ValueError for what cannot be told by its words."""
    if not _PHRASE.fullmatch(entry) or not Words.of(plain(entry)).words:
        raise ValueError("only letters, digits, spaces and hyphens are compared; write a pattern")
    return entry


class Phrases:
    """A list of words and phrases."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._by_first: dict[str, list[tuple[int, tuple[str, ...]]]] = defaultdict(list)
        for index, entry in enumerate(entries):
            for words in {Words.of(plain(entry)).words, Words.of(folded(entry)).words}:
                self._by_first[words[0]].append((index, words))

    def find(self, text: Words) -> Iterator[Found]:
        """Find every occurrence, in the order of the text."""
        for position, word in enumerate(text.words):
            for index, phrase in self._by_first.get(word, ()):
                end = position + len(phrase)
                if text.words[position:end] == phrase:
                    yield Found(index, text.spans[position][0], text.spans[end - 1][1])
