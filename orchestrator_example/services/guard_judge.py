"""Judge a text by policies. Pure, but for the clock that bounds it.

Regular expressions run in the `regex` library, which gives up at a time limit even inside of a
match, and releases the interpreter lock meanwhile: no pattern can hang the node. A text that
cannot be judged in time is flagged. Time is processor time, which is what `regex` measures too (C's
`clock`, of the whole process): a machine that is busy with other things flags nobody.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from contracts.guardrail import Violation, ViolationKind
from orchestrator_example.services.guard_policies import Policy
from orchestrator_example.services.guard_text import Reading, as_it_is, folded, plain
from orchestrator_example.services.guard_words import Found, Phrases, Words

BLOT: Final = "x"


@dataclass(frozen=True, slots=True)
class _Text:
    """A text in its readings: words are looked for where disguises are off, patterns in all."""

    original: str
    words: tuple[Words, ...]
    readings: tuple[Reading, ...]

    @classmethod
    def of(cls, text: str) -> "_Text":
        bare, spelled = plain(text), folded(text)
        words = (Words.of(bare), Words.of(spelled))
        return cls(text, words, (as_it_is(text), bare, spelled))

    def find(self, phrases: Phrases) -> Iterator[Found]:
        """Find phrases in any reading of words."""
        for words in self.words:
            yield from phrases.find(words)

    def without(self, phrases: Phrases) -> "_Text":
        """Blot phrases out with a word that says nothing, so that what is around them counts."""
        characters = list(self.original)
        for each in self.find(phrases):
            characters[each.start : each.end] = BLOT * (each.end - each.start)
        blotted = "".join(characters)
        return self if blotted == self.original else _Text.of(blotted)


def judge(text: str, policies: Sequence[Policy], timeout_seconds: float) -> list[Violation]:
    """List the first violation of each rule; the patterns get so many seconds in all."""
    whole = _Text.of(text)
    give_up_at = time.thread_time() + timeout_seconds
    found: list[Violation] = []
    for policy in policies:
        read = whole.without(policy.allow)
        found += _denied(policy, read)
        for index, pattern in enumerate(policy.patterns):
            try:
                span = _first_match(pattern, read, give_up_at)
            except TimeoutError:
                # Nor is there time for what comes after it.
                return [*found, _undecided(policy, index, timeout_seconds)]
            if span is not None:
                found.append(_violation(policy, ViolationKind.PATTERN, index, span))
    return found


def _denied(policy: Policy, read: _Text) -> list[Violation]:
    first = {each.index: each for each in sorted(read.find(policy.deny), key=_place, reverse=True)}
    return [
        _violation(policy, ViolationKind.DENY_LIST, index, (first[index].start, first[index].end))
        for index in sorted(first)
    ]


def _place(found: Found) -> int:
    return found.start


def _first_match(pattern: Any, read: _Text, give_up_at: float) -> tuple[int, int] | None:
    """Find the first match in any reading of patterns. Raises TimeoutError."""
    for reading in read.readings:
        left = give_up_at - time.thread_time()
        if left <= 0:
            raise TimeoutError
        match = pattern.search(reading.text, timeout=left, concurrent=True)
        if match is not None:
            return reading.original_span(*match.span())
    return None


def _violation(policy: Policy, kind: ViolationKind, index: int, span: tuple[int, int]) -> Violation:
    rule = "entry {} of the deny-list" if kind is ViolationKind.DENY_LIST else "pattern {}"
    where = f"{rule.format(index + 1)}, characters {span[0]} to {span[1]}"
    return Violation(policy=policy.name, kind=kind, detail=where, start=span[0], end=span[1])


def _undecided(policy: Policy, index: int, timeout_seconds: float) -> Violation:
    return Violation(
        policy=policy.name,
        kind=ViolationKind.PATTERN,
        detail=f"pattern {index + 1} could not be judged within {timeout_seconds:g} s, so the text "
        "is refused",
    )
