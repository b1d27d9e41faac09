"""The ledger of jobs that a node knows: waiting, running, finished, or cancelled in advance.

One job id is one job: copies and redeliveries of its request join it, and all are answered with
the same outcome. Pure state: the worker is its only writer.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from node.job import Job, Outcome
from node.ports import Delivery
from node.scheduling.policy import next_job

MAX_TOMBSTONES: Final = 10_000
TOMBSTONE_SECONDS: Final = 3600.0
"""How long a cancel waits for a job that has not arrived (its deadline is not known yet)."""


@dataclass(frozen=True, slots=True)
class Asker:
    """One copy of a request: the delivery to settle, and the job as that copy states it."""

    job: Job
    delivery: Delivery


class Claim(StrEnum):
    """What a request turns out to be."""

    NEW = "new"
    JOINED = "joined"
    FINISHED = "finished"
    CONFLICT = "conflict"


@dataclass(slots=True)
class _Active:
    job: Job
    askers: list[Asker]
    running: bool = False


@dataclass(frozen=True, slots=True)
class _Finished:
    fingerprint: str
    outcome: Outcome
    size_bytes: int


@dataclass(slots=True)
class Ledger:
    """Jobs by id, with bounds on how many finished ones are kept."""

    max_finished: int
    max_finished_bytes: int
    _active: dict[str, _Active] = field(default_factory=dict)
    _finished: OrderedDict[str, _Finished] = field(default_factory=OrderedDict)
    _tombstones: OrderedDict[str, float] = field(default_factory=OrderedDict)

    def claim(self, asker: Asker) -> Claim:
        """Enter a request: as a new job, or as one more asker of a known one."""
        job = asker.job
        if (finished := self._finished.get(job.id)) is not None:
            same = finished.fingerprint == job.fingerprint
            return Claim.FINISHED if same else Claim.CONFLICT
        if (active := self._active.get(job.id)) is None:
            self._active[job.id] = _Active(job, [asker])
            return Claim.NEW
        if active.job.fingerprint != job.fingerprint:
            return Claim.CONFLICT
        active.askers = [each for each in active.askers if not _replaced(each, asker)] + [asker]
        return Claim.JOINED

    def outcome(self, job_id: str) -> Outcome:
        """Look up how a finished job ended. Raises KeyError."""
        return self._finished[job_id].outcome

    def is_finished(self, job_id: str) -> bool:
        """Say whether the outcome is still kept."""
        return job_id in self._finished

    def active(self, job_id: str) -> Job:
        """Look up a job that waits or runs. Raises KeyError."""
        return self._active[job_id].job

    def start_next(self) -> Job | None:
        """Choose the job that runs next and mark it running."""
        job = next_job(entry.job for entry in self._active.values() if not entry.running)
        if job is not None:
            self._active[job.id].running = True
        return job

    def is_waiting(self, job_id: str) -> bool:
        """Say whether the job was claimed and has not started."""
        entry = self._active.get(job_id)
        return entry is not None and not entry.running

    def knows(self, job_id: str) -> bool:
        """Say whether the job is active, or its outcome is still kept."""
        return job_id in self._active or job_id in self._finished

    def finish(self, job_id: str, outcome: Outcome, size_bytes: int) -> list[Asker]:
        """Record how a job ended and return everyone who asked for it."""
        entry = self._active.pop(job_id)
        self._finished[job_id] = _Finished(entry.job.fingerprint, outcome, size_bytes)
        self._forget_oldest()
        return entry.askers

    def drop(self, job_id: str) -> list[Asker]:
        """Forget an active job without an outcome and return everyone who asked for it."""
        return self._active.pop(job_id).askers

    def waiting(self) -> list[Job]:
        """List the jobs that have not started."""
        return [entry.job for entry in self._active.values() if not entry.running]

    def bury(self, job_id: str, now: float) -> None:
        """Remember a cancel that came before its job. `now` is in monotonic seconds."""
        self._tombstones[job_id] = now + TOMBSTONE_SECONDS
        while len(self._tombstones) > MAX_TOMBSTONES:
            self._tombstones.popitem(last=False)

    def is_buried(self, job_id: str, now: float) -> bool:
        """Say whether the job was cancelled before it came."""
        until = self._tombstones.get(job_id)
        return until is not None and now < until

    def _forget_oldest(self) -> None:
        total = sum(entry.size_bytes for entry in self._finished.values())
        while len(self._finished) > 1 and (
            len(self._finished) > self.max_finished or total > self.max_finished_bytes
        ):
            total -= self._finished.popitem(last=False)[1].size_bytes


def _replaced(old: Asker, new: Asker) -> bool:
    """Say whether `new` is the broker's redelivery of `old` after a lost connection."""
    return (
        new.delivery.redelivered
        and old.delivery.generation < new.delivery.generation
        and old.job.envelope.reply_to == new.job.envelope.reply_to
        and old.job.envelope.correlation_id == new.job.envelope.correlation_id
    )
