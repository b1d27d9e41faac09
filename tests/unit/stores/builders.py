"""Small values that tests of stores begin with."""

from node.job import Outcome
from node.ports import KeptResult
from tests.unit.builders import succeeded


def kept(
    job_id: str = "job",
    *,
    replay: int = 0,
    fingerprint: str = "same",
    outcome: Outcome | None = None,
    by: str = "node",
) -> KeptResult:
    """A result; `by` tells the results of two nodes apart."""
    outcome = outcome or succeeded(job_id, metadata={"by": by})
    return KeptResult(job_id, fingerprint, outcome, replay)


def kept_by(result: KeptResult) -> str:
    return result.outcome.result.metadata["by"]
