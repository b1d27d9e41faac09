"""What stages answered, kept so that no orchestrator has work done again that was confirmed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

import pydantic_core

from contracts.result import AnyResult, Status
from node.job import Outcome
from node.ports import Clock, KeptResult, ResultStore
from node.stores.recent import RecentResults
from node.stores.results import FsspecResultStore
from node.stores.shared import SharedResults

MAX_ANSWERS: Final = 4096
MAX_BYTES: Final = 512 * 1024 * 1024
FOLDER: Final = "stages"
MAX_ID_CHARS: Final = 128


def stage_job_id(chain_id: str, stage: str, number: int, digest: str) -> str:
    """Name the job of a stage: the same on every orchestrator, another one for another request.

    `number` counts the jobs of the stage within its chain, from 1; `digest` is the fingerprint of
    its request. Of colons and no dots: a job id is one word of a routing key.
    """
    tail = f"{stage.replace('.', '-')}:{number}:{digest[:8]}"
    if len(chain_id) + 1 + len(tail) > MAX_ID_CHARS:
        chain_id = hashlib.sha256(chain_id.encode()).hexdigest()[:32]
    return f"{chain_id}:{tail}"


def fingerprint(request: Mapping[str, Any]) -> str:
    """Hash a stage's request."""
    # As it goes on the wire: NaN is null there, and read back from the journal.
    wire = pydantic_core.to_jsonable_python(request, inf_nan_mode="null")
    return hashlib.sha256(json.dumps(wire, sort_keys=True).encode()).hexdigest()


def make_journal(url: str | None, owner: str, max_age_seconds: float, clock: Clock) -> ResultStore:
    """Open the journal in the store that nodes share results in, or in memory without one."""
    recent = RecentResults(MAX_ANSWERS, MAX_BYTES, max_age_seconds, clock)
    if url is None:
        return recent
    return SharedResults(recent, FsspecResultStore(f"{url.rstrip('/')}/{FOLDER}", owner, AnyResult))


class Journal:
    """The answers of stages by the ids of their jobs."""

    def __init__(self, store: ResultStore) -> None:
        self._store = store

    async def find(self, job_id: str, replay: int) -> AnyResult | None:
        """Look up what a stage answered; a failure counts until a person replays the chain."""
        kept = await self._store.find(job_id)
        if kept is None or not isinstance(kept.outcome.result, AnyResult):
            return None
        if kept.outcome.status is not Status.SUCCEEDED and kept.replay < replay:
            return None
        return kept.outcome.result

    async def keep(self, digest: str, result: AnyResult, replay: int) -> AnyResult:
        """Keep an answer; returns the one that stands, another orchestrator's perhaps."""
        kept = KeptResult(result.job_id, digest, Outcome(result), replay)
        standing = (await self._store.keep(kept)).outcome.result
        assert isinstance(standing, AnyResult)
        return standing
