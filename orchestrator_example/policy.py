"""What to do when a stage fails. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from contracts.failure import FailureCode, Problem
from contracts.result import JobResult, Status

FINAL: Final = frozenset(
    {
        FailureCode.INVALID_REQUEST,
        FailureCode.UNSUPPORTED_CONTENT_TYPE,
        FailureCode.SAFETY_REFUSED,
        FailureCode.RESULT_TOO_LARGE,
        FailureCode.CONFLICT,
        FailureCode.CANCELLED,
    }
)
"""What the same service would answer again."""


class OnFailure(StrEnum):
    """What becomes of the chain when a stage has failed for good."""

    FAIL = "fail"
    SKIP = "skip"
    SUBSTITUTE = "substitute"


@dataclass(frozen=True, slots=True)
class Policy:
    """How often, how long and by whom a stage is tried, and what follows when that was in vain.

    `timeout_seconds` bounds each attempt, the wait in the queue included. `fallback` is a service
    that takes the same request. `substitute` is the answer that goes on instead.
    """

    timeout_seconds: float = 600.0
    retries: int = 0
    fallback: str | None = None
    on_failure: OnFailure = OnFailure.FAIL
    substitute: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if (self.on_failure is OnFailure.SUBSTITUTE) != (self.substitute is not None):
            raise ValueError("`substitute` belongs to on_failure = substitute, which needs it")
        if not 0 < self.timeout_seconds < math.inf or self.retries < 0:
            raise ValueError("timeout_seconds is a number over 0, and retries is 0 or more")

    @property
    def ends_the_chain(self) -> bool:
        """Whether nothing goes on once the stage's own service has failed."""
        return self.fallback is None and self.on_failure is OnFailure.FAIL


def worth_a_fallback(result: JobResult) -> bool:
    """Say whether another service may do it; what is refused for safety must not find a way."""
    error = result.error
    is_refused = error is not None and error.code is FailureCode.SAFETY_REFUSED
    return result.status is Status.FAILED and not is_refused


def worth_another_attempt(error: Problem | None) -> bool:
    """Say whether the same service might do what it did not do this time."""
    return error is None or error.code not in FINAL
