"""Train the prompt writer: free text -> one caption in the words that the picture model knows.

Run `python -m training.prompt_writer --steps 2500`; it resumes from its last checkpoint. It is a
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

from training.flat import bind
from training.loop import Schedule, load_checkpoint
from training.paraphrases import some_pairs
from training.places import RUNS
from training.shared import Plan, train
from training.writing import Writer, exact_share

VOCABULARY_SIZE = 2048
MAX_TOKENS = 64
CAPTION_TOKENS = 32
BATCH_SIZE = 64
PEAK_RATE = 1.5e-3
# Adam steps T5's relative position biases here, for they are look-up tables; the model tells word
# order by nothing else. At Muon's own rate they moved too slowly: after 1,500 steps 69 % of the
# captions were right, with the words in place and the order lost; with this, 99 % after 500.
ADAM_FRACTION = 8.0
TRAIN_SEED = 31_000_000
TOKENIZER_TEXTS = 20_000
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer from `folder`, training it there first if it is missing."""
    if not (folder / "tokenizer.json").exists():
        train_tokenizer().save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def train_tokenizer(count: int = TOKENIZER_TEXTS) -> PreTrainedTokenizerFast:
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
    texts = itertools.chain.from_iterable(some_pairs(TRAIN_SEED - 1, count))
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
    """Return an untrained writer, whose `generate` needs no settings."""
    model = T5ForConditionalGeneration(
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
    model.generation_config.update(max_new_tokens=CAPTION_TOKENS, do_sample=False)
    return model


class Task:
    """Train the writer on freshly made pairs."""

    def __init__(
        self, tokenizer: Path, precision: torch.dtype, batch_size: int = BATCH_SIZE
    ) -> None:
        self._tokenizer = load_tokenizer(tokenizer)
        self._precision = precision
        self._batch_size = batch_size
        self.model = build_writer(self._tokenizer)

    def loss(self, seed: int, workers: int) -> torch.Tensor:
        """Return the cross-entropy of the captions in one worker's part of a batch."""
        texts = some_pairs(TRAIN_SEED + seed, self._batch_size // workers)
        free, wanted = zip(*texts, strict=True)
        encode = partial(self._tokenizer, padding=True, truncation=True, return_tensors="pt")
        inputs, labels = encode(list(free)), encode(list(wanted)).input_ids
        labels[labels == self._tokenizer.pad_token_id] = -100
        with torch.autocast("cpu", self._precision, enabled=self._precision != torch.float32):
            loss: torch.Tensor = self.model(
                input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, labels=labels
            ).loss
        return loss

    def refresh(self) -> None:
        """Do nothing: pairs are made up as they are needed."""


def load_writer(folder: Path) -> Writer:
    """Return the averaged weights of the last checkpoint, with their tokenizer."""
    state = load_checkpoint(folder / "checkpoint.pt")
    if state is None:
        raise FileNotFoundError(f"no prompt writer in {folder}: train it first")
    tokenizer = load_tokenizer(folder / "tokenizer")
    model = build_writer(tokenizer)
    bind(model, state["average"])
    return Writer(model.eval(), tokenizer)


def export(writer: Writer, folder: Path) -> None:
    """Write an ordinary transformers folder, in float16."""
    writer.model.half().save_pretrained(folder)
    writer.tokenizer.save_pretrained(folder)


def main() -> None:
    """Parse the command line, train, validate and export in float16."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=RUNS / "prompt_writer")
    parser.add_argument("--export", type=Path, default=RUNS / "export" / "prompt_writer")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--decay-steps", type=int, default=1600)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    options = parser.parse_args()
    schedule = Schedule(PEAK_RATE, options.steps, decay_steps=options.decay_steps)
    plan = Plan(options.folder, schedule, ADAM_FRACTION, options.workers)
    precision = getattr(torch, options.precision)
    train(plan, partial(Task, options.folder / "tokenizer", precision))
    writer = load_writer(options.folder)
    print(json.dumps({"exact": exact_share(writer)}))
    export(writer, options.export)


if __name__ == "__main__":
    main()
