"""A captioner with heads: one image classifier whose logits are several choices side by side.

Made and used by the inference thread alone. The classes are named `head:class` in `id2label`.
"""

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageClassification

from node.inference.device import DeviceChoice
from orchestrator_example.services.caption_judging import MATCHING_SCORE, most_likely, score
from orchestrator_example.services.caption_seeing import Sight
from orchestrator_example.services.caption_words import Vocabulary, caption, read_prompt
from orchestrator_example.services.checkpoint_component import StopRequested
from orchestrator_example.services.checkpoint_loading import weights

PIXELS: Final = 128
"""Edge of the pictures that it was trained on; its config has no place for that."""
MAX_NAMED_WORDS: Final = 8
HEADS: Final = frozenset({
    "first_subject", "first_tint", "second_subject", "second_tint", "background", "count",
    "relation", "size",
})  # fmt: skip


def heads_of(id2label: Mapping[int, str]) -> dict[str, tuple[str, ...]]:
    """Read the heads with their classes, in the order of the logits; empty where there are none."""
    named = [id2label[number].partition(":")[::2] for number in sorted(id2label)]
    grouped = groupby(named, key=lambda each: each[0])
    heads = {head: tuple(name for _, name in each) for head, each in grouped}
    return heads if heads.keys() >= HEADS else {}


class HeadModel:
    """Says what an emoji scene shows, and how sure it is of each part."""

    def __init__(self, folder: Path, choice: DeviceChoice) -> None:
        self._model = weights(AutoModelForImageClassification, folder, choice)
        self._heads = heads_of(self._model.config.id2label)
        self._vocabulary = Vocabulary.of(self._heads)

    def warm_up(self) -> None:
        """Look at a blank picture."""
        self.probabilities(Image.new("RGB", (PIXELS, PIXELS)))

    def look(self, image: Image.Image, prompt: str | None, _: StopRequested) -> Sight:
        """Caption a picture, and judge whether it shows the prompt."""
        seen = self.probabilities(image)
        text = caption(most_likely(seen))
        if prompt is None:
            return Sight(text)
        value = score(read_prompt(prompt, self._vocabulary), seen)
        return Sight(text, value, None if value is None else value >= MATCHING_SCORE)

    def warnings(self, prompt: str) -> list[str]:
        """Say what of a prompt cannot be looked for."""
        asked = read_prompt(prompt, self._vocabulary)
        if asked.is_empty:
            return ["prompt: it names nothing that this captioner knows; no picture was compared"]
        if asked.unread:
            words = ", ".join(asked.unread[:MAX_NAMED_WORDS])
            return [f"prompt: not looked for: {words}; this captioner knows two things at a time"]
        return []

    def probabilities(self, image: Image.Image) -> dict[str, dict[str, float]]:
        """Compute the probability of every class of every head."""
        pixels = np.asarray(image.resize((PIXELS, PIXELS), Image.Resampling.LANCZOS), np.float32)
        inputs = torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]
        with torch.inference_mode():
            logits: Any = self._model(inputs.to(self._model.device, self._model.dtype)).logits[0]
        parts = logits.float().cpu().split([len(classes) for classes in self._heads.values()])
        return {
            head: dict(zip(classes, part.softmax(0).tolist(), strict=True))
            for (head, classes), part in zip(self._heads.items(), parts, strict=True)
        }
