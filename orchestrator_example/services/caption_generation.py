"""Captions from an image-to-text or vision-language model of transformers.

Made and used by the inference thread alone. These models only caption: how well a picture shows a
prompt is read off the caption, as the share of the prompt's content words that are in it.
"""

import re
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    StoppingCriteriaList,
)
from transformers.processing_utils import ProcessorMixin

from node.inference.device import DeviceChoice
from orchestrator_example.services.caption_seeing import Sight
from orchestrator_example.services.checkpoint_component import StopRequested
from orchestrator_example.services.checkpoint_loading import weights
from orchestrator_example.services.checkpoint_stopping import EachToken
from orchestrator_example.services.prompt_generation import GREEDY

INSTRUCTION: Final = "Describe this picture in one short sentence."
MAX_NEW_TOKENS: Final = 64
MATCHING_SHARE: Final = 0.5
"""From here on a caption speaks of the same picture: people word one in many ways."""

_WORD: Final = re.compile(r"[^\W_]+")
_FILLERS: Final = frozenset({
    "a", "an", "the", "of", "with", "and", "or", "on", "in", "at", "to", "is", "are", "by",
    "for", "from", "it", "its", "this", "that", "there", "against", "front", "picture", "image",
    "drawing", "photo",
})  # fmt: skip


class GenerativeModel:
    """Captions any picture by generation, the same for the same picture."""

    def __init__(self, folder: Path, choice: DeviceChoice) -> None:
        self._processor, self._tokenizer = _processors(folder)
        self._model = weights(AutoModelForImageTextToText, folder, choice)

    def warm_up(self) -> None:
        """Write two tokens about a blank picture."""
        self._caption(Image.new("RGB", (64, 64)), lambda: None, 2)

    def look(self, image: Image.Image, prompt: str | None, stop_requested: StopRequested) -> Sight:
        """Caption a picture, and compare the words. Raises JobStopped between two tokens."""
        text = self._caption(image, stop_requested, MAX_NEW_TOKENS)
        share = None if prompt is None else shared_words(prompt, text)
        return Sight(text, share, None if share is None else share >= MATCHING_SHARE)

    def warnings(self, prompt: str) -> list[str]:
        """Say what of a prompt cannot be judged."""
        if not content_words(prompt):
            return ["prompt: it has no words that a caption could share; no picture was compared"]
        return []

    def _caption(self, image: Image.Image, stop_requested: StopRequested, length: int) -> str:
        inputs = self._inputs(image).to(self._model.device, self._model.dtype)
        each = EachToken(lambda token, of: None, stop_requested, length)
        each.raise_if_stopped()
        with torch.inference_mode():
            made = self._model.generate(
                **inputs,
                max_new_tokens=length,
                stopping_criteria=StoppingCriteriaList([each]),
                **GREEDY,
            )[0]
        each.raise_if_stopped()
        asked = inputs.get("input_ids")
        if asked is not None and torch.equal(made[: asked.shape[1]], asked[0]):
            # Decoder-only models repeat what they were asked.
            made = made[asked.shape[1] :]
        return " ".join(self._tokenizer.decode(made, skip_special_tokens=True).split())

    def _inputs(self, image: Image.Image) -> Any:
        """Ask a model that follows instructions; one that only captions gets the picture alone."""
        if not getattr(self._processor, "chat_template", None):
            return self._processor(images=image, return_tensors="pt")
        content = [{"type": "image"}, {"type": "text", "text": INSTRUCTION}]
        text = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return self._processor(images=image, text=text, return_tensors="pt")


def _processors(folder: Path) -> tuple[Any, Any]:
    """Load what prepares pictures, and what reads tokens: in one, or apart (ViT with GPT-2)."""
    both = AutoProcessor.from_pretrained(folder, local_files_only=True)
    if isinstance(both, ProcessorMixin):
        return both, both.tokenizer
    return (
        AutoImageProcessor.from_pretrained(folder, local_files_only=True),
        AutoTokenizer.from_pretrained(folder, local_files_only=True),
    )


def content_words(text: str) -> set[str]:
    """Take the words that say what is in a picture, in lower case and without a plural's s."""
    words = set(_WORD.findall(text.lower())) - _FILLERS
    return {word.removesuffix("s") if len(word) > 3 else word for word in words}


def shared_words(prompt: str, caption: str) -> float | None:
    """Compute which share of the prompt's content words a caption has; None where it has none."""
    wanted = content_words(prompt)
    return len(wanted & content_words(caption)) / len(wanted) if wanted else None
