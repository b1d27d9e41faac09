"""A text as policies read it: disguises taken off, and each character knows where it came from.

Two readings, because what helps against one disguise spoils another text:

* plain: compatibility forms (NFKD: full-width, mathematical and circled letters), no invisible
  characters, no accents on Latin, Greek and Cyrillic letters, case folded;
* folded: besides, Cyrillic and Greek letters that look like Latin ones, and digits and signs that
  stand for letters (`b0mb`, `$ex`) are taken as those in words that have letters. The last sign of
  a word stays one: `bomb!` ends in an exclamation mark.

Not undone: letters with spaces or dots between them, letters left out or repeated.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

LAST_ACCENTED: Final = "\u052f"
"""Up to here (Latin, Greek, Cyrillic) marks are accents; in other scripts they make the letter."""
LOOKALIKES: Final = str.maketrans(
    "АВЕКМНОРСТУХІЈЅаеорсухіјѕһԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧαονρι",
    "ABEKMHOPCTYXIJSaeopcyxijshdqwABEZHIKMNOPTYXaovpi",
)
DIGITS: Final = str.maketrans("013457", "oieast")
SIGNS: Final = str.maketrans("@$!", "asi")
_RUN: Final = re.compile(r"[\w@$!]+")


@dataclass(frozen=True, slots=True)
class Reading:
    """A text that is read; `origins[i]` is where its character i stands in the original."""

    text: str
    origins: tuple[int, ...]

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Translate a span to the original; an empty one stays empty."""
        if start < end:
            return self.origins[start], self.origins[end - 1] + 1
        at = self.origins[start] if start < len(self.origins) else self.origins[-1] + 1
        return at, at


def as_it_is(text: str) -> Reading:
    """Change nothing."""
    return Reading(text, tuple(range(len(text))))


def plain(text: str) -> Reading:
    """Take off what does not change the letters."""
    return _read(_bare(text))


def folded(text: str) -> Reading:
    """Take lookalikes as the letters that they look like."""
    bare = _bare(text)
    letters = "".join(character for character, _ in bare).translate(LOOKALIKES)
    spelled = _RUN.sub(_spelled_out, letters)
    return _read([(spelled[index], origin) for index, (_, origin) in enumerate(bare)])


def _spelled_out(run: re.Match[str]) -> str:
    """Take digits and signs as letters where letters are beside them: a number is no word."""
    text = run.group()
    if not any(character.isalpha() for character in text):
        return text
    return text[:-1].translate(SIGNS | DIGITS) + text[-1].translate(DIGITS)


def _bare(text: str) -> list[tuple[str, int]]:
    """Split into compatibility characters without invisible ones and accents, with origins."""
    kept: list[tuple[str, int]] = []
    for origin, given in enumerate(text):
        for character in given if given.isascii() else unicodedata.normalize("NFKD", given):
            accent = unicodedata.category(character) in {"Mn", "Me"} and (
                not kept or kept[-1][0] <= LAST_ACCENTED
            )
            # Not printable: controls, zero-width characters, soft hyphens, marks of direction.
            if not accent and (character.isprintable() or character.isspace()):
                kept.append((character, origin))
    return kept


def _read(characters: list[tuple[str, int]]) -> Reading:
    parts = [(part, origin) for each, origin in characters for part in each.casefold()]
    return Reading("".join(part for part, _ in parts), tuple(origin for _, origin in parts))
