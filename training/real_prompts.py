"""Prompts as people type them, with the captions expected of the prompt writer.

Written by hand, before the paraphrases that the writer trains on were last extended, and kept out
of their making: no phrase was added to the generator because a prompt of this list failed. What
the picture model cannot show (places, styles, other things) is expected to be left out.
"""

from typing import Final

REAL_PROMPTS: Final[tuple[tuple[str, str], ...]] = (
    ("An astronaut riding a green horse", "an astronaut riding a green horse"),
    ("a spaceman on an emerald pony", "an astronaut riding a green horse"),
    ("a cosmonaut rides a lime-coloured stallion", "an astronaut riding a green horse"),
    (
        "A photo of an astronaut riding a horse on mars, highly detailed, 8k",
        "an astronaut riding a horse",
    ),
    ("ASTRONAUT RIDING HORSE", "an astronaut riding a horse"),
    ("cat sleeping on the couch", "a cat"),
    ("two puppies", "two dogs"),
    ("three kittens on a pink blanket", "three cats on a pink background"),
    ("my grandmother's little grey kitten", "a small gray cat"),
    (
        "oil painting of a crimson dragon flying over a medieval castle, dramatic lighting",
        "a red dragon above a castle",
    ),
    ("three golden stars against a black night sky", "three yellow stars on a black background"),
    ("a robot playing the guitar", "a robot next to a guitar"),
    ("a huge pizza", "a large pizza"),
    (
        "Can you draw a penguin that stands next to a snowman, please?",
        "a penguin next to a snowman",
    ),
    ("wizard on a bicycle", "a wizard riding a bicycle"),
    ("a pig is flying above my house", "a pig above a house"),
    ("a knight riding a purple dragon into battle", "an astronaut riding a purple dragon"),
    ("a red VW Beetle parked next to an old oak", "a red car next to a tree"),
    ("minimalist vector logo of an owl", "an owl"),
    ("an elephant standing under a red balloon", "a red balloon above an elephant"),
    ("a monkey eats an apple", "a monkey next to an apple"),
    ("frog in a boat", "a frog riding a boat"),
    ("The bunny and the turtle", "a rabbit next to a turtle"),
    ("a ghost driving a black tractor at midnight", "a ghost riding a black tractor"),
    ("a couple of blue butterflies in the garden", "two blue butterflies"),
    ("tiny snail, huge world", "a small snail"),
    ("an alien and its yellow spaceship", "an alien next to a yellow rocket"),
    ("a purple cow", "a purple cow"),
    ("a panda sits on a whale in the middle of the ocean", "a panda riding a whale"),
    ("watercolour of a brown dog, white background", "a brown dog on a white background"),
    ("a sailboat on a lake at sunrise", "a boat"),
    ("a blue bird above a cactus", "a blue owl above a cactus"),
    ("a dinosaur with a birthday cake", "a dinosaur next to a cake"),
    ("give me 3 apples", "three apples"),
    ("a green aple", "a green apple"),
    ("cyberpunk robot riding a motorcycle through neon tokyo", "a robot riding a bicycle"),
    ("a camel next to a palm tree in the desert", "a camel next to a tree"),
    ("A GIANT MUSHROOM IN AN ENCHANTED FOREST", "a large mushroom"),
    ("a tiger who sits beside a pink pig", "a tiger next to a pink pig"),
    ("a monkey rode an elephant yesterday", "a monkey riding an elephant"),
    ("portrait of a wise old wizard with a long beard, by rembrandt", "a wizard"),
    ("a cow jumps over the moon", "a cow above a star"),
    ("rocket launching from cape canaveral", "a rocket"),
    ("A green horse being ridden by an astronaut", "an astronaut riding a green horse"),
    ("orange cat on purple background", "an orange cat on a purple background"),
    ("a horse, but make it violet", "a purple horse"),
    ("what would a dog look like on top of a castle?", "a dog above a castle"),
    ("I want to see an owl perched on a tree branch", "an owl above a tree"),
)
