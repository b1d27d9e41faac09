"""Use a prompt writer, and measure it: on fresh paraphrases, on real prompts, on nonsense."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from training.captions import is_caption
from training.paraphrases import nonsense, some_pairs
from training.real_prompts import REAL_PROMPTS

VALIDATION_SEED = 99
BATCH = 64


@dataclass(frozen=True, slots=True)
class Writer:
    """Hold a `T5ForConditionalGeneration` and its tokenizer."""

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path) -> "Writer":
        """Load an exported writer; nothing is fetched."""
        model = AutoModelForSeq2SeqLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return cls(model.eval(), tokenizer)

    def write(self, texts: Sequence[str]) -> list[str]:
        """Return a caption for each free text."""
        written: list[str] = []
        for start in range(0, len(texts), BATCH):
            part = list(texts[start : start + BATCH])
            inputs = self.tokenizer(part, padding=True, truncation=True, return_tensors="pt")
            with torch.inference_mode():
                ids = self.model.generate(
                    input_ids=inputs.input_ids, attention_mask=inputs.attention_mask
                )
            written += self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in written]


def exact_share(writer: Writer, count: int = 2000) -> float:
    """Return the share of fresh paraphrases that are written exactly as wanted."""
    free, wanted = zip(*some_pairs(VALIDATION_SEED, count), strict=True)
    return _share(writer.write(free), wanted)


def report(writer: Writer, count: int = 2000) -> dict[str, object]:
    """Measure a writer; the real prompts that it got wrong are listed."""
    prompts, expected = zip(*REAL_PROMPTS, strict=True)
    written = writer.write(prompts)
    rng = random.Random(VALIDATION_SEED)
    noise = [nonsense(rng) for _ in range(count // 4)]
    return {
        "paraphrases": {"exact": exact_share(writer, count), "of": count},
        "real_prompts": {"exact": _share(written, expected), "of": len(prompts)},
        "real_prompts_missed": [
            {"prompt": prompt, "expected": wanted, "written": made}
            for prompt, wanted, made in zip(prompts, expected, written, strict=True)
            if made != wanted
        ],
        "nonsense": {"grammatical": _share_of_captions(writer.write(noise)), "of": len(noise)},
    }


def _share(written: Sequence[str], wanted: Sequence[str]) -> float:
    right = sum(made == text for made, text in zip(written, wanted, strict=True))
    return round(right / len(wanted), 4)


def _share_of_captions(written: Sequence[str]) -> float:
    return round(sum(map(is_caption, written)) / len(written), 4)
