"""How a text is put to a language model: alone, in a chat, or for the model to continue.

Used by the inference thread alone.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

from jinja2 import TemplateError
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from node.errors import InvalidRequest, SetupError
from orchestrator_example.services.checkpoint_loading import is_checkpoint

INSTRUCTION: Final = (
    "You write prompts for a text-to-image model. Rewrite the text as one short English prompt "
    "that says what the picture shows: the subjects, their colours, how they stand to each other, "
    "and the background. Answer with the prompt only."
)


class Asking(StrEnum):
    """How a model wants to be asked: by the text alone, in a chat, or to continue a text."""

    TEXT = "text"
    CHAT = "chat"
    CONTINUED = "continued"


def asking_of(name: str, config: Any, tokenizer: Any) -> Asking:
    """Choose by what the checkpoint was saved as. Raises SetupError where it writes no text."""
    if is_checkpoint(config, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES):
        return Asking.TEXT
    if is_checkpoint(config, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        return Asking.CHAT if tokenizer.chat_template else Asking.CONTINUED
    raise SetupError(
        f"{name} writes no text: it is a {', '.join(config.architectures or [config.model_type])};"
        " the prompt-writer takes causal and seq2seq language models of transformers"
    )


class Question:
    """Turns texts into what a model reads, within its context.

    A context is what a model reads; of a causal one, what it writes lies there, too.
    """

    def __init__(self, asking: Asking, config: Any, tokenizer: Any) -> None:
        self._asking = asking
        self._tokenizer = tokenizer
        # A tokenizer without a bound says 1e30.
        positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
        self._context = int(min(positions, tokenizer.model_max_length))

    def fitted(self, text: str, max_new_tokens: int) -> tuple[Sequence[int], bool]:
        """Encode a text, and say whether its end had to be cut off. Raises InvalidRequest."""
        room = self._context if self._asking is Asking.TEXT else self._context - max_new_tokens
        ids = self.encoded(text)
        if len(ids) <= room:
            return ids, False
        kept = self._tokenizer(text, add_special_tokens=False).input_ids
        while kept and len(ids) > room:
            kept = kept[: -(len(ids) - room)]
            ids = self.encoded(self._tokenizer.decode(kept, skip_special_tokens=True))
        if not kept:
            raise InvalidRequest(
                f"max_new_tokens: {max_new_tokens} leaves no room for a text in the "
                f"{self._context} tokens of this model; ask for fewer"
            )
        return ids, True

    def encoded(self, text: str) -> Sequence[int]:
        """Encode a text, whatever its length."""
        match self._asking:
            case Asking.TEXT:
                ids: Sequence[int] = self._tokenizer(text).input_ids
            case Asking.CHAT:
                ids = _chat(self._tokenizer, text)
            case Asking.CONTINUED:
                ids = self._tokenizer(f"{INSTRUCTION}\n\nText: {text}\nPrompt:").input_ids
        return ids


def tidy(text: str, asking: Asking) -> str:
    """Take the prompt out of what a model wrote around it: lines, spaces, quotation marks."""
    if asking is Asking.CONTINUED:
        text = text.lstrip().partition("\n")[0]
    return " ".join(text.split()).strip("\"'`“”‘’ ")


def _chat(tokenizer: Any, text: str) -> Sequence[int]:
    system = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": text}]
    try:
        return _templated(tokenizer, system)
    except TemplateError:
        # Some templates (Gemma's) refuse a system message.
        return _templated(tokenizer, [{"role": "user", "content": f"{INSTRUCTION}\n\n{text}"}])


def _templated(tokenizer: Any, messages: list[dict[str, str]]) -> Sequence[int]:
    encoded = tokenizer.apply_chat_template(
        messages,
        add_generation_prompt=True,
        return_dict=True,
        # A variable of Qwen's templates; others do not look at it.
        enable_thinking=False,
    )
    ids: Sequence[int] = encoded["input_ids"]
    return ids
