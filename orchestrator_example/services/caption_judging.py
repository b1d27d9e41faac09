"""How well a picture shows a prompt. Pure.

The score is the least probability of all that was asked for: a picture is as right as its least
certain part. A mean would let seven right parts hide the one that is wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from orchestrator_example.services.caption_words import RELATIONS, Asked, Thing

MATCHING_SCORE: Final = 0.5
"""From here on a picture shows its prompt: all that it asks for is the most likely thing seen.

Measured with the shipped picture model on 72 prompts: 99 % of its pictures are accepted, 2 of 5112
pairs with another picture's prompt (both said less of the same), and of pictures after one
inference step 11 %. After two steps most pictures do show their prompt, if smeared.
"""

Seen = Mapping[str, Mapping[str, float]]
"""What a captioner saw: the probability of every class of every head."""


def score(asked: Asked, seen: Seen) -> float | None:
    """Say from 0 to 1 how sure it is that all that was asked for is there; None: nothing was."""
    if asked.is_empty:
        return None
    return max(min(_probabilities(asked, seen, sides)) for sides in _orders(asked))


def most_likely(seen: Seen) -> dict[str, str]:
    """Choose the most likely class of each head."""
    return {head: max(classes, key=classes.__getitem__) for head, classes in seen.items()}


def best(scores: Sequence[float | None]) -> int | None:
    """Choose the picture with the highest score, the first of equals; None where none has one."""
    judged = [(value, -index) for index, value in enumerate(scores) if value is not None]
    return -max(judged)[1] if judged else None


def _orders(asked: Asked) -> Iterator[tuple[str, ...]]:
    """Say which heads may show which thing: "A next to B" may be seen as "B next to A"."""
    yield ("first", "second")
    if asked.relation in (None, "next to"):
        yield ("second", "first")
    elif len(asked.things) == 1 and asked.relation in RELATIONS:
        # The prompt's other thing has no name here: this one may be either of the two.
        yield ("second",)


def _probabilities(asked: Asked, seen: Seen, sides: Sequence[str]) -> Iterator[float]:
    for side, thing in zip(sides, asked.things, strict=False):
        yield from _probabilities_of(thing, side, seen)
    wanted = {
        "relation": asked.relation,
        "count": asked.count,
        "size": asked.size,
        "background": asked.background,
    }
    for head, name in wanted.items():
        if name is not None:
            yield seen[head].get(name, 0.0)


def _probabilities_of(thing: Thing, side: str, seen: Seen) -> Iterator[float]:
    yield seen[f"{side}_subject"].get(thing.subject, 0.0)
    if thing.tint is not None:
        yield seen[f"{side}_tint"].get(thing.tint, 0.0)
