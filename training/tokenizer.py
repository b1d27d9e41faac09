"""Train the CLIP tokenizer of the small text encoder on captions.

It is byte-level, so it accepts any text: unknown words fall apart into letters.
"""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from training.captions import caption
from training.scenes import sample_scenes

MAX_TOKENS = 32
VOCABULARY_SIZE = 1024
CAPTIONS = 20_000
SEED = 5
START, END, SUFFIX = "<|startoftext|>", "<|endoftext|>", "</w>"


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load the tokenizer from `folder`, training it there first if it is missing."""
    if not (folder / "tokenizer_config.json").exists():
        train_tokenizer().save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def train_tokenizer(captions: int = CAPTIONS) -> CLIPTokenizer:
    """Learn merges from generated captions; every byte is in the vocabulary, in and at word end."""
    tokenizer = CLIPTokenizer(
        {START: 0, END: 1}, [], model_max_length=MAX_TOKENS, unk_token=END, pad_token=END
    )
    letters = sorted(ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(letters),
        initial_alphabet=letters,
        end_of_word_suffix=SUFFIX,
        special_tokens=[START, END],
        show_progress=False,
    )
    backend = tokenizer.backend_tokenizer
    backend.train_from_iterator(_captions(captions), trainer)
    vocabulary = dict(backend.get_vocab())
    for letter in letters:
        vocabulary.setdefault(letter + SUFFIX, len(vocabulary))
    return CLIPTokenizer(
        vocabulary, _merges(backend), model_max_length=MAX_TOKENS, unk_token=END, pad_token=END
    )


def _merges(backend: Tokenizer) -> list[tuple[str, str]]:
    return [(left, right) for left, right in json.loads(backend.to_str())["model"]["merges"]]


def _captions(count: int) -> Iterator[str]:
    rng = random.Random(SEED)
    for scene in itertools.islice(sample_scenes(SEED), count):
        yield caption(scene, rng)
