"""Whether a node should go on taking work. Pure."""

from dataclasses import dataclass, field
from typing import Final

from contracts.failure import FailureCode
from contracts.result import Status
from node.job import Outcome

OWN_FAULTS: Final = frozenset({FailureCode.INTERNAL, FailureCode.OUT_OF_MEMORY})
"""Failures that say something about the node; others are about the request."""


@dataclass(slots=True)
class Fitness:
    """Judges a node by how its jobs end; `reason` says why it is unfit, once it is.

    Different jobs are counted, not attempts: one request that always fails is no proof.
    """

    max_failed_jobs: int
    reason: str = ""
    _failed: set[str] = field(default_factory=set)

    def job_ended(self, job_id: str, outcome: Outcome) -> None:
        """Take in how a job ended."""
        error = outcome.error
        if outcome.status is Status.SUCCEEDED:
            self._failed.clear()
        elif error is not None and error.code in OWN_FAULTS:
            self._failed.add(job_id)
            if len(self._failed) >= self.max_failed_jobs:
                self.broke(f"{len(self._failed)} jobs in a row failed; the last: {error.detail}")

    def broke(self, reason: str) -> None:
        """Say that no job can succeed here; the first reason stays."""
        self.reason = self.reason or reason
