"""Make up free requests for a scene, in words that the picture model does not know.

Pairs of (free text, canonical caption) train the prompt writer. What the pictures cannot show
(places, styles, adjectives, other things) pads the free text and is missing from the caption.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace

from training import phrasebook as phrases
from training.captions import canonical_caption
from training.scenes import Item, Scene, sample_scene
from training.synonyms import NOTHING_KNOWN
from training.typing_errors import with_typing_error
from training.vocabulary import BACKGROUNDS, BY_NAME, article
from training.wording import UNKNOWN, colour_word, made_up_word, worded, worded_item


def pairs(seed: int) -> Iterator[tuple[str, str]]:
    """Yield (free text, caption) for ever."""
    rng = random.Random(seed)
    while True:
        asked, drawn = _asked_and_drawn(rng)
        text = nonsense(rng) if asked is None else paraphrase(asked, rng)
        yield text, canonical_caption(drawn)


def some_pairs(seed: int, count: int) -> list[tuple[str, str]]:
    """Return the first pairs of a seed."""
    return list(itertools.islice(pairs(seed), count))


def _asked_and_drawn(rng: random.Random) -> tuple[Scene | None, Scene]:
    """Draw what a text asks for, None where it asks for nothing, and what can be shown of it."""
    draw = rng.random()
    if draw < 0.03:
        return None, Scene((Item(NOTHING_KNOWN),))
    scene = sample_scene(rng)
    if rng.random() < 0.04:
        # People do ask for green frogs on green backgrounds, which the pictures never have.
        scene = replace(scene, background=rng.choice(list(BACKGROUNDS)))
    return _with_unknown(scene, rng) if draw < 0.13 else (scene, scene)


def _with_unknown(scene: Scene, rng: random.Random) -> tuple[Scene, Scene]:
    """Put something unknown in place of one item.

    Next to a known subject the unknown one is left out, so the known one has a size of its own;
    alone it becomes `NOTHING_KNOWN`.
    """
    unknown = tuple(replace(item, subject=UNKNOWN) for item in scene.items)
    if scene.relation is None:
        drawn = tuple(replace(item, subject=NOTHING_KNOWN) for item in scene.items)
        return replace(scene, items=unknown), replace(scene, items=drawn)
    known = 0 if rng.random() < 0.75 else 1
    size = rng.choice(("small", "large")) if rng.random() < 0.1 else "normal"
    items = tuple(item if n == known else unknown[n] for n, item in enumerate(scene.items))
    alone = Scene((items[known],), size=size, background=scene.background)
    return replace(scene, items=items, size=size), alone


def nonsense(rng: random.Random) -> str:
    """Return a text that names nothing."""
    draw = rng.random()
    if draw < 0.5:
        return rng.choice(phrases.NONSENSE)
    if draw < 0.9:
        return " ".join(made_up_word(rng) for _ in range(rng.randint(1, 8)))
    return "".join(rng.choice("0123456789!?#%&/=+*-. ") for _ in range(rng.randint(1, 20)))


def paraphrase(scene: Scene, rng: random.Random) -> str:
    """Word a scene freely."""
    text = worded(scene, rng) + _aside(scene, rng)
    if rng.random() < 0.18:
        made_up = rng.random() < 0.15
        text += f" in {made_up_word(rng)}" if made_up else f" {rng.choice(phrases.PLACES)}"
    text = _padded(*_on_background(text, scene.background, rng), rng)
    if rng.random() < 0.06:
        text = with_typing_error(text, rng)
    draw = rng.random()
    return text if draw < 0.7 else text.capitalize() if draw < 0.92 else text.upper()


def _aside(scene: Scene, rng: random.Random) -> str:
    """Add what somebody does or wears, or what else is far behind."""
    if scene.relation is None:
        acts = scene.items[0].subject != UNKNOWN and rng.random() < 0.12
        return f" {rng.choice(phrases.ACTIONS)}" if acts else ""
    if rng.random() < 0.03:
        return f" with {worded_item(Item(rng.choice(list(BY_NAME))), rng)} in the background"
    return ""


def _on_background(text: str, background: str | None, rng: random.Random) -> tuple[str, str]:
    """Return what goes before all else, and the text with its background."""
    if background is None:
        return "", text
    colour = colour_word(background, rng)
    if rng.random() < 0.08:
        return rng.choice(phrases.BACKGROUNDS_FIRST).format(colour, a=article(colour)), text
    return "", text + rng.choice(phrases.BACKGROUNDS).format(colour, a=article(colour))


def _padded(before: str, text: str, rng: random.Random) -> str:
    """Ask for it, name a style, and close."""
    if rng.random() < 0.2:
        text = rng.choice(phrases.STYLE_OPENINGS) + text
    if rng.random() < 0.35:
        text = rng.choice(phrases.OPENINGS) + text
    if rng.random() < 0.2:
        text = ", ".join([text, *rng.sample(phrases.STYLES, rng.randint(1, 4))])
    return before + text + (rng.choice(phrases.CLOSINGS) if rng.random() < 0.25 else "")
