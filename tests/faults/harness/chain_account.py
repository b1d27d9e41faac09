"""The books of chains: how each ended, and what work was done for it."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from contracts.megaservice import MegaServiceRequest, MegaServiceResult
from contracts.message import Message
from tests.faults.harness.account import Account
from tests.faults.harness.chain_orchestrator import CHAIN
from tests.faults.harness.chain_services import chain_of, chained, is_right, jobs_of, stage_of
from tests.faults.harness.entry import Entry
from tests.faults.harness.paced import Generation
from tests.faults.harness.waiting import until

STOPPED_SECONDS: Final = 10.0


class ChainAccount(Account):
    """Chains are asked for, the jobs of their stages are counted.

    `store` is the folder that orchestrators (and services, if they share results) keep answers in:
    an answer that is there was confirmed, and its job must not begin again.
    """

    service = CHAIN
    result_model = MegaServiceResult
    store: Path | None = None

    def plain(self) -> Message:
        """Make the request of a scenario that says nothing about it."""
        return chained()

    def jobs(self, begun: Iterable[str]) -> Iterable[str]:
        """Name the jobs of stages, by which generations are counted."""
        return begun

    def is_right(self, entry: Entry, result: Any) -> bool:
        """Say whether a chain ended with the answer that its request leads to."""
        assert isinstance(entry.request, MegaServiceRequest)
        return is_right(entry.request, result)

    def wrong_work(self) -> list[str]:
        """Name the jobs that were begun although their answer was kept."""
        return [f"work repeated that was confirmed: {job_id}" for job_id in self.repeated()]

    def repeated(self) -> list[str]:
        """Name the jobs that were begun although their answer was kept, once for each time."""
        begun: set[str] = set()
        repeated = []
        for each in self.fleet.generations():
            if each.what == "started":
                if each.job_id in begun and self._was_answered(each):
                    repeated.append(each.job_id)
                begun.add(each.job_id)
        return repeated

    def stage_jobs(self, chain: str, what: str = "started") -> list[Generation]:
        """List the begins (or ends) of a chain's jobs."""
        found = self.fleet.generations()
        return [each for each in found if chain_of(each.job_id) == chain and each.what == what]

    def stages(self, chain: str, what: str = "started") -> list[str]:
        """Name the stages whose jobs began (or ended), in that order."""
        return [stage_of(each.job_id) for each in self.stage_jobs(chain, what)]

    def superfluous(self, chain: str) -> dict[str, int]:
        """Count the begins of jobs beyond those that a chain needs, by stage."""
        request = self.entries[chain].request
        assert isinstance(request, MegaServiceRequest)
        begun = self.stages(chain)
        counts = {name: begun.count(name) - jobs for name, jobs in jobs_of(request).items()}
        return {name: count for name, count in counts.items() if count}

    def running(self, chain: str) -> set[str]:
        """Name the jobs of a chain that began and have neither ended nor stopped."""
        ended = {
            each.job_id for what in ("finished", "stopped") for each in self.stage_jobs(chain, what)
        }
        return {each.job_id for each in self.stage_jobs(chain)} - ended

    async def in_stage(self, chain: str, stage: str) -> str:
        """Wait until a chain's job of this stage began; name the node that has it."""

        def begun() -> list[str]:
            return [j.instance for j in self.stage_jobs(chain) if stage_of(j.job_id) == stage]

        await until(begun, f"{chain} is in stage {stage}")
        return begun()[0]

    async def nothing_runs(self, chain: str) -> None:
        """Wait until no service has a job of this chain any more."""
        no_job = f"no job of {chain} runs"
        await until(lambda: not self.running(chain), no_job, patience_seconds=STOPPED_SECONDS)

    def _was_answered(self, begin: Generation) -> bool:
        times = [file.stat().st_mtime for file in self._kept(begin.job_id)]
        return bool(times) and min(times) < begin.time

    def _kept(self, job_id: str) -> Iterator[Path]:
        if self.store is not None:
            digest = hashlib.sha256(job_id.encode()).hexdigest()
            for place in (self.store / "stages", self.store):
                yield from (place / "results" / digest[:2] / digest).glob("result-*.?")
