"""Hold the phrases that free requests are put together from, and what they may be padded with."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Verb:
    """Give the forms of a verb with its preposition: "sits", "sat", "sitting" and "on"."""

    third: str
    past: str
    participle: str
    preposition: str = ""


def _verbs(text: str) -> tuple[Verb, ...]:
    """Read lines of "third past participle [preposition]"."""
    split = (line.split(maxsplit=3) for line in text.strip().splitlines())
    return tuple(Verb(*words) for words in split)


RIDING_VERBS: Final = _verbs("""
    rides rode riding
    rides rode riding
    rides rode riding on
    rides rode riding on top of
    sits sat sitting on
    travels travelled travelling on
    gallops galloped galloping on
    climbs climbed climbing onto
    journeys journeyed journeying on
    mounts mounted mounting
""")
RIDING_PHRASES: Final = (
    "on", "on", "on the back of", "mounted on", "astride", "on board of", "atop",
)  # fmt: skip
DRIVING_VERBS: Final = _verbs("""
    drives drove driving
    drives drove driving in
    steers steered steering
    sits sat sitting in
    travels travelled travelling in
    pilots piloted piloting
    flies flew flying in
    sails sailed sailing in
    pedals pedalled pedalling
""")
DRIVING_PHRASES: Final = ("in", "in", "inside", "aboard", "at the wheel of")
RIDDEN_PHRASES: Final = (
    "{second} carrying {first}", "{second} that carries {first}", "{second} ridden by {first}",
    "{second} with {first} on its back", "{second} with {first} riding it",
    "{second} with {first} sitting on it", "{second} which is ridden by {first}",
    "on {second} sits {first}", "on the back of {second} rides {first}", "{second}, on it {first}",
)  # fmt: skip

BESIDE_VERBS: Final = _verbs("""
    stands stood standing next to
    stands stood standing beside
    stands stood standing by
    sits sat sitting next to
    sits sat sitting beside
    waits waited waiting near
    walks walked walking with
    walks walked walking past
    lies lay lying next to
    plays played playing with
    looks looked looking at
    watches watched watching
    holds held holding
    eats ate eating
    meets met meeting
    chases chased chasing
    follows followed following
    hugs hugged hugging
    fights fought fighting
    leans leaned leaning against
    talks talked talking to
    dances danced dancing with
    visits visited visiting
    has had having
""")
BESIDE_PHRASES: Final = (
    "next to", "next to", "beside", "by", "near", "alongside", "together with", "and", "and",
    "with", "in front of", "behind", "close to", "to the left of", "side by side with", "and also",
    "plus", "at",
)  # fmt: skip
NEIGHBOUR_PHRASES: Final = (
    "{first}, and next to it {second}", "next to {second} stands {first}", "{first}, {second}",
    "{first} and {second} next to each other", "{first} and {second} side by side",
    "{first} and {second} together", "beside {second} there is {first}",
)  # fmt: skip
PLAYING_VERBS: Final = _verbs("""
    plays played playing
    plays played playing on
    strums strummed strumming
""")

ABOVE_VERBS: Final = _verbs("""
    flies flew flying over
    flies flew flying above
    floats floated floating over
    floats floated floating above
    hovers hovered hovering above
    hovers hovered hovering over
    hangs hung hanging over
    jumps jumped jumping over
    leaps leapt leaping over
    soars soared soaring above
    rises rose rising above
    levitates levitated levitating over
""")
ABOVE_PHRASES: Final = (
    "above", "above", "over", "on top of", "higher than", "high above", "in the air above",
)  # fmt: skip
STANDING_VERBS: Final = _verbs("""
    sits sat sitting on
    stands stood standing on
    lies lay lying on
    perches perched perching on
    lands landed landing on
    dances danced dancing on
""")
STANDING_PHRASES: Final = ("on", "on", "perched on", "up on", "atop")
BELOW_PHRASES: Final = (
    "{second} under {first}", "{second} below {first}", "{second} beneath {first}",
    "{second} underneath {first}", "{second} lying under {first}", "{second} sitting below {first}",
    "{second} sleeping under {first}", "{second} hiding under {first}",
    "{second} with {first} above it", "{second} with {first} on top",
    "{second} stands under {first}", "{second} with {first} over its head",
    "{second} sits under {first}",
    "above {second} flies {first}", "over {second} there is {first}", "{second}, above it {first}",
)  # fmt: skip

OPENINGS: Final = (
    "please draw ", "draw ", "draw me ", "i want ", "i would like to see ", "i'd love ", "show me ",
    "can you paint ", "can you draw ", "make a picture of ", "give me an image of ", "create ",
    "imagine ", "how about ", "paint ", "generate ", "i need a drawing of ", "could i have ",
    "there is ", "once upon a time there was ", "look, ", "my daughter wants ", "a picture of ",
    "an image of ", "a picture where there is ", "prompt: ", "let's see ", "what about ",
    "a scene with ", "we see ", "please make me a nice picture of ", "text: ",
)  # fmt: skip
STYLE_OPENINGS: Final = (
    "a photo of ", "photo of ", "an oil painting of ", "oil painting of ", "a watercolor of ",
    "a cartoon of ", "cartoon ", "a 3d render of ", "3d render of ", "a sketch of ",
    "a pencil drawing of ", "concept art of ", "digital art of ", "a close-up of ",
    "a black and white photo of ", "a portrait of ", "portrait of ", "a wide shot of ", "emoji of ",
    "a pixel art of ", "an illustration of ", "illustration of ", "a logo of ", "a poster of ",
    "a children's book illustration of ", "a realistic photograph of ", "icon of ", "an anime of ",
    "a detailed painting of ", "a painting of ", "clip art of ", "sticker of ", "a statue of ",
)  # fmt: skip
STYLES: Final = (
    "4k", "8k", "hd", "highly detailed", "ultra realistic", "photorealistic", "masterpiece",
    "trending on artstation", "digital art", "oil painting", "watercolor", "pixel art",
    "cinematic lighting", "dramatic light", "golden hour", "soft light", "bokeh", "sharp focus",
    "by van gogh", "in the style of monet", "by picasso", "studio ghibli", "vaporwave", "steampunk",
    "isometric", "low poly", "unreal engine", "octane render", "award winning", "concept art",
    "very cute", "in a nice style", "beautiful", "minimalistic", "flat design", "vector art",
    "black and white", "wide angle", "35mm", "best quality", "fantasy", "surreal", "cartoon style",
    "colourful", "vibrant colors", "line art", "manga", "comic book", "epic composition", "hdr",
)  # fmt: skip
CLOSINGS: Final = (
    " please", ", thanks", "!", ".", "...", " please!", ", thank you very much", " :)", "?",
    " for me", ", if you can", " as a gift for my mother", " and nothing else",
    ", as funny as possible",
)  # fmt: skip
PLACES: Final = (
    "on a beach", "on a beach at sunset", "at the beach", "in space", "in outer space",
    "on the moon", "on mars", "in the desert", "in a forest", "in the woods", "in the jungle",
    "in the snow", "in the rain", "at night", "by night", "at dawn", "at sunset", "in the morning",
    "in the city", "in new york", "in paris", "in the streets of london", "through the city",
    "down the road", "in the mountains", "on a mountain", "in the park", "in a field",
    "in a meadow", "on grass", "in a kitchen", "in the living room", "at a party", "at school",
    "in the office", "underwater", "under water", "by the sea", "across the sea",
    "across the desert", "in the sky", "in winter", "in the autumn", "on a sunny day",
    "during a storm", "on an island", "in the countryside", "in a fairy tale", "in a dream",
    "in the zoo", "at the circus", "on a farm", "in the universe", "through the clouds",
    "in the fog", "on a street", "on a bridge", "at a lake", "over the ocean",
    "in the middle of nowhere", "in front of a mountain", "among flowers", "on stage",
    "in a museum", "in a spooky old town", "under the stars", "in the sunshine",
    "on a rainy monday", "in a race", "on christmas eve", "around the world", "in a bathtub",
    "from behind", "in slow motion",
)  # fmt: skip
ACTIONS: Final = (
    "sleeping", "running", "dancing", "smiling", "sitting", "standing", "jumping", "swimming",
    "flying", "singing", "laughing", "reading a book", "drinking tea", "waving", "looking sad",
    "thinking", "wearing a hat", "wearing sunglasses", "with a hat", "with big eyes", "in a suit",
    "with a long tail", "wearing a crown", "playing football", "cooking dinner", "doing yoga",
    "walking alone", "who is happy", "that looks tired", "which is asleep", "having fun", "at work",
    "in pyjamas", "with a scarf", "taking a nap", "working on a laptop", "called bob", "named luna",
    "surfing a wave", "with wings", "full of joy", "eating ice cream", "holding a flag", "on fire",
    "with a red hat", "wearing blue shoes", "with green eyes", "in a yellow raincoat",
    "with a white beard", "wearing a black tie", "with pink ribbons", "holding an orange umbrella",
)  # fmt: skip
ADJECTIVES: Final = (
    "cute", "old", "young", "happy", "sad", "angry", "funny", "fluffy", "majestic", "brave",
    "sleepy", "beautiful", "shiny", "wooden", "lovely", "lonely", "tired", "friendly", "scary",
    "fat", "thin", "crazy", "magical", "ancient", "modern", "futuristic", "white", "striped",
    "spotted", "clever", "colourful", "rainbow-coloured", "transparent", "broken", "new", "famous",
    "mysterious", "cool", "adorable", "elegant", "noble", "wild", "fast", "slow", "lazy", "hungry",
    "proud", "cartoon", "realistic", "smiling", "dancing", "flying", "sleeping", "running",
    "strange", "simple", "single", "baby", "toy", "robotic", "evil", "fancy", "furry", "nice",
    "pretty", "handsome", "grumpy", "medieval", "vintage", "japanese", "wet", "dirty", "lucky",
    "silly", "strong", "tall", "real",
)  # fmt: skip
BACKGROUNDS: Final = (
    " on {a} {0} background", " on {a} {0} background", " with {a} {0} background",
    " against {a} {0} backdrop", ", {0} background", ", {0} background", " {0} background",
    " in front of {a} {0} wall", ", everything {0} behind", " under {a} {0} sky",
    " with {0} behind it", " against {a} {0} sky", " on {a} {0} field", " on {a} {0} surface",
    " on {a} {0} floor", " in front of {a} {0} screen", ", the background is {0}",
    ", background {0}", " on {0}", " on plain {0}", " on {a} {0} carpet", " on {a} {0} wallpaper",
    " and {a} {0} background", " against {0}", ", with a background in {0}",
    " before {a} {0} background", ". the background should be {0}", " in {a} {0} landscape",
)  # fmt: skip
BACKGROUNDS_FIRST: Final = (
    "on {a} {0} background, ", "against {a} {0} sky, ", "{0} background: ", "{0} background, ",
    "on {a} {0} background there is ", "in front of {a} {0} wall, ",
)  # fmt: skip
LEADS: Final = ("the", "this", "my", "one", "another", "her", "our")
NOUNS: Final = (
    "sofa", "lamp", "table", "chair", "computer", "bottle", "mountain", "river", "idea", "hat",
    "spoon", "telephone", "book", "shoe", "window", "door", "bridge", "cloud", "road", "clock",
    "hammer", "key", "ball", "umbrella", "bed", "pencil", "camera", "ring", "sword", "shield",
    "box", "basket", "ladder", "candle", "mirror", "pillow", "engine", "waterfall", "island",
    "volcano", "statue", "fountain", "fence", "wheel", "piano", "drum", "trumpet", "microscope",
    "refrigerator", "television", "laptop", "newspaper", "stapler", "toothbrush", "washing machine",
    "coffee cup", "glass of wine", "bag", "coat", "sock", "skyscraper roof", "rainbow", "snowflake",
    "thunderstorm", "planet", "galaxy", "treasure chest", "pyramid", "lighthouse", "anchor",
    "feather", "crystal", "equation", "concept", "mathematician", "company", "festival",
    "sandwich maker", "hairdresser", "skateboard", "surfboard", "trampoline", "swing",
    "tennis racket", "football", "chess board",
)  # fmt: skip
NONSENSE: Final = (
    "hello", "hello there", "hi", "test", "testing 123", "a", "an", "the", "of the", "?", "...",
    "1", "what is the weather today?", "who are you?", "tell me a joke", "write a poem about love",
    "something nice", "anything", "surprise me", "a picture", "draw something", "lorem ipsum dolor",
    "freedom and justice", "quarterly report", "i am hungry", "how are you doing", "good morning",
    "happiness", "the meaning of life", "it depends", "to be or not to be", "peace on earth",
    "abstract art", "a beautiful landscape", "nothing", "none", "null", "undefined", "yes", "no",
    "mountains at sunset", "a city skyline at night", "a bowl of soup", "stock market crash",
    "climate change", "e = mc2", "def main(): pass", "select * from users", "foo bar baz",
    "a portrait", "modern architecture", "please help me", "ok", "thank you", "10 + 5",
)  # fmt: skip
