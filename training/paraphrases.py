"""Make up free requests for a scene, in words the picture model does not know.

Pairs of (free text, canonical caption) train the prompt writer. Synonyms are a closed list; what
surrounds them is drawn from templates.
"""

import itertools
import random
from collections.abc import Iterator

from training.captions import canonical_caption
from training.scenes import Item, Relation, Scene, sample_scene
from training.vocabulary import BY_NAME, SIZE_WORDS, article

SYNONYMS: dict[str, tuple[str, ...]] = {
    "astronaut": ("spaceman", "cosmonaut", "space traveller", "spacewoman"),
    "robot": ("android", "droid", "machine man"),
    "cat": ("kitty", "kitten", "feline"),
    "dog": ("puppy", "hound", "doggy"),
    "monkey": ("ape", "chimp"),
    "penguin": ("antarctic bird",),
    "frog": ("toad",),
    "alien": ("martian", "extraterrestrial"),
    "ghost": ("spirit", "phantom", "spook"),
    "panda": ("panda bear",),
    "rabbit": ("bunny", "hare"),
    "owl": ("night bird",),
    "wizard": ("sorcerer", "magician", "mage"),
    "snowman": ("man of snow",),
    "horse": ("pony", "steed", "stallion", "mare"),
    "dragon": ("fire-breather", "wyvern"),
    "elephant": ("jumbo",),
    "whale": ("orca",),
    "turtle": ("tortoise",),
    "camel": ("dromedary",),
    "pig": ("piglet", "hog", "swine"),
    "cow": ("bull", "calf"),
    "tiger": ("big striped cat",),
    "dinosaur": ("dino", "brontosaurus"),
    "snail": ("slug",),
    "bicycle": ("bike", "two-wheeler"),
    "car": ("automobile", "auto", "sedan"),
    "tractor": ("farm machine",),
    "boat": ("sailboat", "ship", "yacht"),
    "rocket": ("spaceship", "spacecraft"),
    "house": ("home", "cottage", "hut"),
    "tree": ("oak", "maple"),
    "castle": ("fortress", "palace"),
    "cactus": ("desert plant",),
    "mushroom": ("toadstool",),
    "apple": ("fruit",),
    "pizza": ("pizza slice", "slice of pizza"),
    "cake": ("birthday cake", "tart"),
    "guitar": ("electric guitar",),
    "star": ("shining star",),
    "balloon": ("party balloon",),
    "butterfly": ("moth",),
    "red": ("crimson", "scarlet", "ruby"),
    "orange": ("tangerine", "amber"),
    "yellow": ("golden", "lemon"),
    "green": ("emerald", "lime", "olive"),
    "blue": ("azure", "navy", "sapphire"),
    "purple": ("violet", "lilac"),
    "pink": ("rosy", "magenta"),
    "brown": ("chocolate", "chestnut"),
    "gray": ("grey", "silver", "ashen"),
    "black": ("ebony", "jet-black", "dark"),
    "white": ("snowy", "ivory"),
}
RELATIONS: dict[Relation, tuple[str, ...]] = {
    Relation.RIDING: (
        "riding", "on", "sitting on", "mounted on", "astride", "on the back of", "travelling on",
        "that rides", "galloping on",
    ),
    Relation.NEXT_TO: (
        "next to", "beside", "by", "near", "alongside", "standing by", "together with", "and",
    ),
    Relation.ABOVE: (
        "above", "over", "on top of", "floating over", "hovering above", "flying over",
        "higher than",
    ),
}  # fmt: skip
OPENINGS = (
    "", "", "", "", "please draw ", "draw me ", "i want ", "i would like to see ", "show me ",
    "can you paint ", "make a picture of ", "give me an image of ", "create ", "a photo of ",
    "imagine ", "how about ", "paint ", "generate ", "i need a drawing of ", "could i have ",
)  # fmt: skip
CLOSINGS = ("", "", "", "", " please", ", thanks", "!", ".", " in a nice style", ", very cute")
BACKGROUNDS = (
    " on a {0} background", " with a {0} background", " against a {0} backdrop",
    ", {0} background", " in front of a {0} wall", ", everything {0} behind", " under a {0} sky",
    " with {0} behind it",
)  # fmt: skip
SIZES = {
    "small": ("small", "tiny", "little", "miniature"),
    "large": ("large", "big", "huge", "giant", "enormous"),
}
NUMBERS = {2: ("two", "2", "a pair of", "a couple of"), 3: ("three", "3", "a trio of")}


def pairs(seed: int) -> Iterator[tuple[str, str]]:
    """Yield (free text, caption) for ever."""
    rng = random.Random(seed)
    while True:
        scene = sample_scene(rng)
        yield paraphrase(scene, rng), canonical_caption(scene)


def some_pairs(seed: int, count: int) -> list[tuple[str, str]]:
    """Return the first pairs of a seed."""
    return list(itertools.islice(pairs(seed), count))


def paraphrase(scene: Scene, rng: random.Random) -> str:
    """Word a scene freely."""
    text = _group(scene, rng)
    if scene.background is not None:
        text += rng.choice(BACKGROUNDS).format(_other_word(scene.background, rng))
    text = rng.choice(OPENINGS) + text + rng.choice(CLOSINGS)
    draw = rng.random()
    return text if draw < 0.7 else text.capitalize() if draw < 0.92 else text.upper()


def _group(scene: Scene, rng: random.Random) -> str:
    if scene.relation is not None:
        phrase = rng.choice(RELATIONS[scene.relation])
        return f"{_one(scene.items[0], rng)} {phrase} {_one(scene.items[1], rng)}"
    if scene.count > 1:
        return f"{rng.choice(NUMBERS[scene.count])} {_described(scene.items[0], rng, plural=True)}"
    size = rng.choice(SIZES[scene.size]) if scene.size in SIZE_WORDS else ""
    return _one(scene.items[0], rng, size)


def _one(item: Item, rng: random.Random, size: str = "") -> str:
    words = f"{size} {_described(item, rng)}".strip()
    lead = rng.random()
    if lead < 0.8:
        return f"{article(words)} {words}"
    return f"the {words}" if lead < 0.88 else words


def _described(item: Item, rng: random.Random, plural: bool = False) -> str:
    name = _other_word(item.subject, rng)
    if plural:
        name = BY_NAME[name].plural if name in BY_NAME else f"{name}s"
    if item.tint is None:
        return name
    tint = _other_word(item.tint, rng)
    return f"{tint}-coloured {name}" if rng.random() < 0.08 else f"{tint} {name}"


def _other_word(word: str, rng: random.Random) -> str:
    return rng.choice(SYNONYMS[word]) if rng.random() < 0.6 else word
