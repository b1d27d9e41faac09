"""Map other people's words onto the vocabulary of the picture model.

What has no emoji of its own gets its nearest neighbour: a knight is drawn as an astronaut, for he
wears a helmet, too. Longer lists would make no picture better, for there are only 42 subjects.
"""

from typing import Final

from training.vocabulary import BY_NAME

NOTHING_KNOWN: Final = "robot"
"""The subject that stands in where a text names none that can be drawn."""

SUBJECT_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "astronaut": (
        "spaceman", "cosmonaut", "space traveller", "spacewoman", "space explorer", "person",
        "man", "woman", "boy", "girl", "child", "knight", "warrior", "soldier", "cowboy", "pilot",
    ),
    "robot": ("android", "droid", "machine man", "cyborg"),
    "cat": ("kitty", "kitten", "feline", "tomcat", "tabby"),
    "dog": ("puppy", "hound", "doggy", "poodle", "corgi", "wolf", "fox"),
    "monkey": ("ape", "chimp", "chimpanzee", "gorilla"),
    "penguin": ("antarctic bird", "emperor penguin", "duck"),
    "frog": ("toad", "tree frog"),
    "alien": ("martian", "extraterrestrial", "monster"),
    "ghost": ("spirit", "phantom", "spook", "spectre"),
    "panda": ("panda bear", "bear", "polar bear", "teddy bear"),
    "rabbit": ("bunny", "hare", "mouse", "squirrel"),
    "owl": ("night bird", "bird", "eagle", "parrot"),
    "wizard": ("sorcerer", "magician", "mage", "witch", "king", "gnome", "elf"),
    "snowman": ("man of snow", "yeti"),
    "horse": ("pony", "steed", "stallion", "mare", "foal", "donkey", "zebra", "unicorn"),
    "dragon": ("fire-breather", "wyvern", "drake", "sea serpent"),
    "elephant": ("jumbo", "mammoth", "rhino", "hippo"),
    "whale": ("orca", "blue whale", "fish", "dolphin", "shark"),
    "turtle": ("tortoise", "sea turtle"),
    "camel": ("dromedary", "llama", "giraffe"),
    "pig": ("piglet", "hog", "swine", "boar"),
    "cow": ("bull", "calf", "ox", "sheep", "goat"),
    "tiger": ("big striped cat", "lion", "leopard", "bengal tiger"),
    "dinosaur": ("dino", "brontosaurus", "t-rex", "crocodile", "lizard"),
    "snail": ("slug", "worm"),
    "bicycle": ("bike", "two-wheeler", "motorcycle", "motorbike", "scooter"),
    "car": (
        "automobile", "auto", "sedan", "sports car", "taxi", "jeep", "truck", "bus", "van",
        "ferrari", "porsche", "tesla", "volkswagen", "mini cooper", "race car",
    ),
    "tractor": ("farm machine", "bulldozer", "excavator"),
    "boat": ("sailboat", "ship", "yacht", "sailing boat", "canoe", "ferry"),
    "rocket": ("spaceship", "spacecraft", "space shuttle", "plane", "airplane", "ufo"),
    "house": ("home", "cottage", "hut", "cabin", "building", "barn", "villa"),
    "tree": ("oak", "maple", "pine tree", "palm", "palm tree", "flower", "bush"),
    "castle": ("fortress", "palace", "tower"),
    "cactus": ("desert plant", "saguaro"),
    "mushroom": ("toadstool", "fungus"),
    "apple": ("fruit", "pear", "peach", "tomato"),
    "pizza": ("pizza slice", "slice of pizza", "pepperoni pizza", "sandwich", "burger"),
    "cake": ("birthday cake", "tart", "cupcake", "pie", "muffin"),
    "guitar": ("electric guitar", "violin", "banjo"),
    "star": ("shining star", "sun", "moon", "comet"),
    "balloon": ("party balloon", "hot air balloon", "kite"),
    "butterfly": ("moth", "dragonfly", "bee"),
}  # fmt: skip
COLOUR_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "red": ("crimson", "scarlet", "ruby", "maroon", "cherry red"),
    "orange": ("tangerine", "amber", "copper", "pumpkin-coloured"),
    "yellow": ("golden", "gold", "lemon", "blond"),
    "green": ("emerald", "lime", "olive", "mint", "jade", "khaki"),
    "blue": ("azure", "navy", "sapphire", "turquoise", "teal", "cyan", "indigo", "navy blue"),
    "purple": ("violet", "lilac", "lavender", "mauve"),
    "pink": ("rosy", "magenta", "rose", "fuchsia", "salmon"),
    "brown": ("chocolate", "chestnut", "tan", "bronze", "hazel"),
    "gray": ("grey", "silver", "ashen", "slate"),
    "black": ("ebony", "jet-black", "dark", "pitch black"),
    "white": ("snowy", "ivory", "snow-white", "plain white"),
}
SHADES: Final = ("light", "dark", "bright", "pale", "deep", "neon", "pastel", "vivid", "soft")
SIZE_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "small": ("small", "tiny", "little", "miniature", "wee"),
    "large": ("large", "big", "huge", "giant", "enormous", "gigantic", "massive"),
}
NUMBER_WORDS: Final[dict[int, tuple[str, ...]]] = {
    2: ("two", "2", "a pair of", "a couple of", "two", "both"),
    3: (
        "three", "3", "a trio of", "three", "some", "several", "many", "a few", "four", "five",
        "a group of", "lots of",
    ),
}  # fmt: skip
VEHICLES: Final = frozenset({"bicycle", "car", "tractor", "boat", "rocket"})
_SAME_IN_PLURAL: Final = frozenset({"sheep", "fish", "spacecraft", "swine"})
_IRREGULAR: Final = {
    "child": "children",
    "mouse": "mice",
    "ox": "oxen",
    "person": "people",
    "elf": "elves",
    "wolf": "wolves",
    "calf": "calves",
    "fungus": "fungi",
    "tomato": "tomatoes",
}


def plural(name: str) -> str:
    """Return the plural of a subject's name, or of a word for it: "slices of pizza"."""
    if name in BY_NAME:
        return BY_NAME[name].plural
    head, of, rest = name.partition(" of ")
    before, space, last = head.rpartition(" ")
    return f"{before}{space}{_plural_word(last)}{of}{rest}"


def _plural_word(word: str) -> str:
    if word in _SAME_IN_PLURAL:
        return word
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("man"):
        return word.removesuffix("man") + "men"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")
