"""Train the prompt writer: free text -> one caption in the words that the picture model knows.

Run `python -m training.prompt_writer --steps 1500`; it resumes from its last checkpoint. It is a
small T5 with a byte-level BPE tokenizer of its own, trained on generated paraphrases.
"""

import argparse
import itertools
import json
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from tokenizers import decoders as token_decoders
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from training.loop import Schedule, load_checkpoint
from training.paraphrases import pairs, some_pairs
from training.shared import Plan, bind, train

VOCABULARY_SIZE = 1500
MAX_TOKENS = 48
BATCH_SIZE = 64
PEAK_RATE = 1.5e-3
ADAM_FRACTION = 1.0
TRAIN_SEED = 31_000_000
VALIDATION_SEED = 99
TOKENIZER_TEXTS = 20_000
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer from `folder`, training it there first if it is missing."""
    if not (folder / "tokenizer.json").exists():
        train_tokenizer().save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Learn a lower-casing byte-level BPE from both sides of the pairs."""
    backend = Tokenizer(models.BPE(unk_token=None))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = token_decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[PAD, END, UNKNOWN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = itertools.chain.from_iterable(some_pairs(TRAIN_SEED - 1, TOKENIZER_TEXTS))
    backend.train_from_iterator(texts, trainer)
    end = (END, backend.token_to_id(END))
    backend.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[end])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=MAX_TOKENS,
    )


def build_writer(tokenizer: PreTrainedTokenizerFast) -> T5ForConditionalGeneration:
    """Return an untrained writer."""
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=192,
            d_kv=32,
            d_ff=512,
            num_layers=3,
            num_decoder_layers=3,
            num_heads=6,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            decoder_start_token_id=tokenizer.pad_token_id,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


class Task:
    """Train the writer on freshly made pairs."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = load_tokenizer(folder)
        self.model = build_writer(self._tokenizer)

    def loss(self, seed: int, workers: int) -> torch.Tensor:
        """Return the cross-entropy of the captions in one worker's part of a batch."""
        free, wanted = zip(*some_pairs(TRAIN_SEED + seed, BATCH_SIZE // workers), strict=True)
        encode = partial(self._tokenizer, padding=True, truncation=True, return_tensors="pt")
        inputs, labels = encode(list(free)), encode(list(wanted)).input_ids
        labels[labels == self._tokenizer.pad_token_id] = -100
        loss: torch.Tensor = self.model(
            input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, labels=labels
        ).loss
        return loss

    def refresh(self) -> None:
        """Do nothing: pairs are made up as they are needed."""


def load_writer(folder: Path) -> tuple[T5ForConditionalGeneration, PreTrainedTokenizerFast]:
    """Return the averaged weights of the last checkpoint, and the tokenizer."""
    state = load_checkpoint(folder / "checkpoint.pt")
    if state is None:
        raise FileNotFoundError(f"no prompt writer in {folder}: train it first")
    tokenizer = load_tokenizer(folder / "tokenizer")
    model = build_writer(tokenizer)
    bind(model, state["average"])
    return model.eval(), tokenizer


@torch.inference_mode()
def write_prompts(
    model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> list[str]:
    """Return a caption for each free text."""
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    ids = model.generate(
        input_ids=inputs.input_ids,
        attention_mask=inputs.attention_mask,
        max_new_tokens=MAX_TOKENS,
        do_sample=False,
    )
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]


def validate(folder: Path, count: int = 512) -> float:
    """Return the share of fresh paraphrases that are written exactly as wanted."""
    model, tokenizer = load_writer(folder)
    free, wanted = zip(*itertools.islice(pairs(VALIDATION_SEED), count), strict=True)
    written = write_prompts(model, tokenizer, list(free))
    return sum(a == b for a, b in zip(written, wanted, strict=True)) / count


def main() -> None:
    """Parse the command line, train, validate and export in float16."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("training/runs/prompt_writer"))
    parser.add_argument("--export", type=Path, default=Path("training/runs/export/prompt_writer"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--decay-steps", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    schedule = Schedule(PEAK_RATE, options.steps, decay_steps=options.decay_steps)
    plan = Plan(options.folder, schedule, ADAM_FRACTION, options.workers)
    train(plan, partial(Task, options.folder / "tokenizer"))
    print(json.dumps({"exact": validate(options.folder)}))
    model, tokenizer = load_writer(options.folder)
    model.half().save_pretrained(options.export)
    tokenizer.save_pretrained(options.export)


if __name__ == "__main__":
    main()
