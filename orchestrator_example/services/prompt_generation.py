"""Prompts from a language model, token by token. Made and used by the inference thread alone."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    StoppingCriteriaList,
)

from node.errors import GenerationFailed
from node.inference.device import DeviceChoice
from orchestrator_example.services.checkpoint_component import StopRequested
from orchestrator_example.services.checkpoint_loading import weights
from orchestrator_example.services.checkpoint_stopping import EachToken, ReportToken
from orchestrator_example.services.prompt_asking import Asking, Question, asking_of, tidy

DEFAULT_NEW_TOKENS: Final = 96
"""Where neither the request nor the checkpoint says how long a prompt may be."""
GREEDY: Final[dict[str, Any]] = {
    # Whatever the checkpoint prefers: the same input gives the same text.
    "do_sample": False,
    "num_beams": 1,
    "temperature": None,
    "top_p": None,
    "top_k": None,
}


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt, whether the end of the text was cut off, and the seconds that it took."""

    text: str
    truncated: bool
    encode_seconds: float
    generate_seconds: float


class PromptModel:
    """A seq2seq or causal language model that writes prompts, the same for the same text."""

    def __init__(self, name: str, folder: Path, choice: DeviceChoice) -> None:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._asking = asking_of(name, config, self._tokenizer)
        self._question = Question(self._asking, config, self._tokenizer)
        classes = AutoModelForSeq2SeqLM if self._asking is Asking.TEXT else AutoModelForCausalLM
        self._model = weights(classes, folder, choice)

    def warm_up(self) -> None:
        """Write two tokens, whatever they are."""
        each = EachToken(lambda token, of: None, lambda: None, 2)
        self._generated(self._question.encoded("a horse"), 2, each)

    def write(
        self,
        text: str,
        max_new_tokens: int | None,
        report: ReportToken,
        stop_requested: StopRequested,
    ) -> Written:
        """Write a prompt.

        Raises JobStopped between two tokens, InvalidRequest, GenerationFailed.
        """
        started = time.perf_counter()
        preferred = self._model.generation_config.max_new_tokens
        length = max_new_tokens or preferred or DEFAULT_NEW_TOKENS
        ids, truncated = self._question.fitted(text, length)
        encoded = time.perf_counter()
        each = EachToken(report, stop_requested, length, self._ends_after(len(ids)))
        prompt = tidy(self._decoded(self._generated(ids, length, each)), self._asking)
        if not prompt:
            raise GenerationFailed("the model wrote nothing; word the text differently")
        return Written(prompt, truncated, encoded - started, time.perf_counter() - encoded)

    def _generated(self, ids: Sequence[int], length: int, each: EachToken) -> Any:
        """Generate, and return the new tokens only."""
        inputs = torch.tensor([ids], device=self._model.device)
        pad, end = self._tokenizer.pad_token_id, self._tokenizer.eos_token_id
        each.raise_if_stopped()
        with torch.inference_mode():
            made = self._model.generate(
                input_ids=inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=length,
                stopping_criteria=StoppingCriteriaList([each]),
                pad_token_id=end if pad is None else pad,
                **GREEDY,
            )[0]
        each.raise_if_stopped()
        return made if self._asking is Asking.TEXT else made[len(ids) :]

    def _decoded(self, ids: Any) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _ends_after(self, asked: int) -> Callable[[Any], bool]:
        """A model that continues a text does not know where the prompt ends: after one line."""
        if self._asking is not Asking.CONTINUED:
            return lambda ids: False
        return lambda ids: "\n" in self._decoded(ids[asked:]).lstrip()
