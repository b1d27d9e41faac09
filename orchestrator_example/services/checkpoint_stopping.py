"""A watch on the tokens that transformers generates. Used by the inference thread alone."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import StoppingCriteria

from node.errors import JobStopped
from orchestrator_example.services.checkpoint_component import StopRequested

ReportToken = Callable[[int, int], None]
"""Receives how many tokens are written, of how many at most."""


class EachToken(StoppingCriteria):  # type: ignore[misc]
    """Called by transformers after each token: reports it, and stops when asked to, or at an end.

    `status` says afterwards why it was stopped, if it was.
    """

    def __init__(
        self,
        report: ReportToken,
        stop_requested: StopRequested,
        max_new_tokens: int,
        is_end: Callable[[Any], bool] = lambda ids: False,
    ) -> None:
        self._report = report
        self._stop_requested = stop_requested
        self._max_new_tokens = max_new_tokens
        self._is_end = is_end
        self._tokens = 0
        self.status = stop_requested()

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        self._tokens += 1
        self._report(self._tokens, self._max_new_tokens)
        self.status = self._stop_requested()
        stop = self.status is not None or self._is_end(input_ids[0])
        return torch.full((len(input_ids),), stop, dtype=torch.bool, device=input_ids.device)

    def raise_if_stopped(self) -> None:
        """Raise JobStopped where the job was told to stop."""
        if self.status is not None:
            raise JobStopped(self.status)
