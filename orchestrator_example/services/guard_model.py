"""Judge texts with a text-classification model of transformers, beside the policies.

Importing this module does not import torch; the inference thread does, when `load` begins.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from contracts.guardrail import (
    GUARDRAIL,
    GuardrailRequest,
    GuardrailResult,
    Violation,
    ViolationKind,
)
from contracts.message import Message
from contracts.result import JobResult, Status
from node.component import Invocation
from node.inference.device import DeviceChoice
from node.settings import Settings
from orchestrator_example.services.checkpoint_component import CheckpointComponent


class ModelGuard(CheckpointComponent):
    """Flags a text when a label that counts as unsafe reaches the threshold anywhere in it."""

    name: ClassVar[str] = GUARDRAIL
    service_type: ClassVar[str] = "GUARDRAIL"
    description: ClassVar[str] = "Judges texts with a classification model"
    request_model: ClassVar[type[Message]] = GuardrailRequest
    result_model: ClassVar[type[JobResult]] = GuardrailResult
    shipped: ClassVar[str] = ""
    """No such model comes with the package: one is always named."""

    def __init__(
        self, settings: Settings, model: str, unsafe_labels: Iterable[str], threshold: float
    ) -> None:
        super().__init__(settings.model_copy(update={"model": model}))
        self._unsafe_labels = frozenset(unsafe_labels)
        self._threshold = threshold

    def build(self, name: str, folder: Path, choice: DeviceChoice) -> Any:
        """Load the classification model."""
        from orchestrator_example.services.guard_classification import Classifier

        return Classifier(name, folder, choice, self._unsafe_labels)

    async def invoke(self, request: Message, invocation: Invocation) -> JobResult:
        """Judge the text; a long one window by window."""
        assert isinstance(request, GuardrailRequest)
        scores: dict[str, float] = await self.run(
            "a verdict", invocation, lambda model, stop: model.scores(request.text, stop)
        )
        violations = [
            self._violation(label, score)
            for label, score in scores.items()
            if score >= self._threshold
        ]
        return GuardrailResult(
            job_id=invocation.job_id,
            status=Status.SUCCEEDED,
            flagged=bool(violations),
            violations=violations,
        )

    def _violation(self, label: str, score: float) -> Violation:
        return Violation(
            policy=label,
            kind=ViolationKind.MODEL,
            detail=f"{self.model_name} gives {score:.3f}, from {self._threshold:g} on it counts",
        )
