"""A text-classification model of transformers. Made and used by the inference thread alone."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from contracts.result import Status
from node.errors import JobStopped, SetupError
from node.inference.device import DeviceChoice
from orchestrator_example.services.checkpoint_loading import weights

KIND: Final = "ForSequenceClassification"
MAX_TOKENS: Final = 512
"""A window, where the checkpoint does not say how long its texts may be."""
RESERVED_POSITIONS: Final = 2
"""RoBERTa counts the positions of its texts from here."""


class Classifier:
    """Says how sure a model is of each unsafe label."""

    def __init__(
        self, name: str, folder: Path, choice: DeviceChoice, unsafe_labels: frozenset[str]
    ) -> None:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        # Of any other kind, transformers would make up a head, and its verdicts be random.
        if not any(name.endswith(KIND) for name in config.architectures or []):
            raise SetupError(f"GUARDRAIL_MODEL: {name} is no text-classification model")
        self._unsafe = _unsafe(name, config.id2label, unsafe_labels)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._window = _window(self._tokenizer.model_max_length, config)
        self._device = choice.device
        self._independent = (
            config.num_labels == 1 or config.problem_type == "multi_label_classification"
        )
        self._model = weights(AutoModelForSequenceClassification, folder, choice)

    def warm_up(self) -> None:
        """Judge a text once."""
        self.scores("a warm-up", lambda: None)

    def scores(self, text: str, stop_requested: Callable[[], Status | None]) -> dict[str, float]:
        """Give the highest score of each unsafe label in any window. Raises JobStopped."""
        highest = dict.fromkeys(self._unsafe.values(), 0.0)
        with torch.inference_mode():
            for window in self._windows(text):
                if (status := stop_requested()) is not None:
                    raise JobStopped(status)
                logits = self._model(**window).logits[0].float()
                scores = logits.sigmoid() if self._independent else logits.softmax(-1)
                for index, label in self._unsafe.items():
                    highest[label] = max(highest[label], float(scores[index]))
        return highest

    def _windows(self, text: str) -> Iterator[dict[str, Any]]:
        """Cut a text into windows that overlap by a quarter, so that no phrase is cut for all."""
        encoded = self._tokenizer(
            text,
            truncation=True,
            max_length=self._window,
            stride=self._window // 4,
            return_overflowing_tokens=True,
        )
        names = [name for name in self._tokenizer.model_input_names if name in encoded]
        for values in zip(*(encoded[name] for name in names), strict=True):
            if values[0]:
                yield {
                    name: torch.tensor([each], device=self._device)
                    for name, each in zip(names, values, strict=True)
                }


def _unsafe(name: str, id2label: dict[int, str], wanted: frozenset[str]) -> dict[int, str]:
    """Find the labels that count as unsafe, whatever their case. Raises SetupError."""
    known = {label.casefold(): (index, label) for index, label in id2label.items()}
    missing = sorted(label for label in wanted if label.casefold() not in known)
    if missing or not wanted:
        problem = f"not {', '.join(missing)}" if missing else "name those that count as unsafe"
        raise SetupError(
            f"GUARDRAIL_UNSAFE_LABELS: {name} has the labels {', '.join(id2label.values())}; "
            f"{problem}"
        )
    return dict(sorted(known[label.casefold()] for label in wanted))


def _window(model_max_length: int, config: Any) -> int:
    positions = getattr(config, "max_position_embeddings", None) or MAX_TOKENS
    # A tokenizer that knows no limit gives a number beyond all reason.
    known = model_max_length <= positions
    return model_max_length if known else max(min(MAX_TOKENS, positions) - RESERVED_POSITIONS, 8)
