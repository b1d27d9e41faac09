"""The books of a scenario whose callers speak HTTP: what was taken, and what became of it."""

import time
from collections import Counter
from typing import Any

from contracts.message import Message
from contracts.result import Status
from contracts.text2image import Text2ImageResult
from tests.faults.harness.entry import Entry, ending, is_right
from tests.faults.harness.gateways import GatewayFleet
from tests.faults.harness.paced import paced
from tests.faults.harness.report import Report
from tests.gateways import HttpCaller


class HttpAccount:
    """Submits jobs and looks at them, through any gateway; keeps count."""

    def __init__(self, fleet: GatewayFleet, scenario: str) -> None:
        self.entries: dict[str, Entry] = {}
        self._fleet = fleet
        self._scenario = scenario
        self._opened_at = time.monotonic()

    async def submit(
        self,
        caller: HttpCaller,
        request: Message | None = None,
        *,
        ends: str = "succeeded",
        **given: Any,
    ) -> str:
        """Submit a job, which is taken; return its id."""
        request = request or paced()
        address = await caller.submitted(request.model_dump(mode="json"), **given)
        job_id = address.rsplit("/", 1)[1]
        entry = self.entries.setdefault(job_id, Entry(job_id, request, frozenset({ends})))
        entry.confirmed = True
        return job_id

    async def submit_many(self, caller: HttpCaller, count: int, **given: Any) -> list[str]:
        """Submit so many jobs, each with a seed of its own; `given` is for `paced`."""
        return [await self.submit(caller, paced(seed=seed, **given)) for seed in range(count)]

    async def settled(self, *callers: HttpCaller) -> Report:
        """Wait for every end, as all callers see it; return and write the report."""
        for entry in self.entries.values():
            for caller in callers:
                await caller.ended(address_of(entry.job_id))
                for _ in range(2):
                    view = await caller.job(address_of(entry.job_id))
                    result = Text2ImageResult.model_validate(view["result"])
                    if result not in entry.visible:
                        entry.visible.append(result)
        problems = [why for entry in self.entries.values() for why in _wrong(entry)]
        problems += self._fleet.crashes()
        ends = Counter(entry.visible[0].status for entry in self.entries.values())
        begun = Counter(self._fleet.generated(job_id) for job_id in self.entries)
        report = Report(
            scenario=self._scenario,
            attempted=len(self.entries),
            confirmed=len(self.entries),
            succeeded=ends[Status.SUCCEEDED],
            failed_as_asked=ends[Status.FAILED],
            cancelled=ends[Status.CANCELLED],
            expired=ends[Status.EXPIRED],
            lost=0,
            visible_twice=sum(len(entry.visible) > 1 for entry in self.entries.values()),
            second_copies=0,
            recovered=0,
            unexpected=len(problems),
            generations_per_job=dict(sorted(begun.items())),
            seconds=round(time.monotonic() - self._opened_at, 2),
            problems=problems,
        )
        report.write()
        return report


def address_of(job_id: str) -> str:
    """Return the path of a job."""
    return f"/v1/jobs/{job_id}"


def _wrong(entry: Entry) -> list[str]:
    wrong = []
    for result in entry.visible:
        if ending(result) not in entry.ends:
            wrong.append(f"{entry.job_id} ended as {ending(result)}: {result.error}")
        elif result.status is Status.SUCCEEDED and not is_right(entry, result):
            wrong.append(f"{entry.job_id} has another answer than its request asks for")
    return wrong
