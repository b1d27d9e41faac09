"""The ledger of jobs that a node has taken and not answered, and of cancels that came early.

One job id is one job: copies and redeliveries of its request join it, and all are answered with
the same outcome. Pure state: the worker is its only writer.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from node.job import Job
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
    CONFLICT = "conflict"


class Stage(StrEnum):
    """How far a job has come: taken, allowed to start, started, ended but not yet answered."""

    TAKEN = "taken"
    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(slots=True)
class _Entry:
    job: Job
    askers: list[Asker]
    stage: Stage = Stage.TAKEN


@dataclass(slots=True)
class Ledger:
    """Jobs by id, from their first request to their outcome."""

    _jobs: dict[str, _Entry] = field(default_factory=dict)
    _tombstones: OrderedDict[str, float] = field(default_factory=OrderedDict)

    def claim(self, asker: Asker) -> Claim:
        """Enter a request: as a new job, or as one more asker of a known one."""
        job = asker.job
        if (entry := self._jobs.get(job.id)) is None:
            self._jobs[job.id] = _Entry(job, [asker])
            return Claim.NEW
        if entry.job.fingerprint != job.fingerprint:
            return Claim.CONFLICT
        entry.askers = [each for each in entry.askers if not _replaced(each, asker)] + [asker]
        return Claim.JOINED

    def has_taken(self, job: Job) -> bool:
        """Say whether this very job was taken, and neither admitted nor ended since."""
        entry = self._jobs.get(job.id)
        return entry is not None and entry.job is job and entry.stage is Stage.TAKEN

    def admit(self, job_id: str) -> None:
        """Let a job start when its turn comes."""
        self._jobs[job_id].stage = Stage.WAITING

    def start_next(self) -> Job | None:
        """Choose the job that runs next and mark it running."""
        waiting = (e.job for e in self._jobs.values() if e.stage is Stage.WAITING)
        if (job := next_job(waiting)) is not None:
            self._jobs[job.id].stage = Stage.RUNNING
        return job

    def end(self, job_id: str) -> None:
        """Mark a job as over; copies of its request still join, and get its outcome."""
        self._jobs[job_id].stage = Stage.ENDED

    def drop(self, job_id: str) -> list[Asker]:
        """Forget a job and return everyone who asked for it."""
        return self._jobs.pop(job_id).askers

    def askers(self, job: Job) -> list[Asker]:
        """List who asked for a job so far, with the body that it has."""
        entry = self._jobs.get(job.id)
        same = entry is not None and entry.job.fingerprint == job.fingerprint
        return list(entry.askers) if entry is not None and same else []

    def attempt(self, job_id: str) -> int:
        """Say how often a job was tried: as often as the copy of it that was tried most."""
        return max(asker.job.envelope.attempt for asker in self._jobs[job_id].askers)

    def job(self, job_id: str) -> Job:
        """Look up a job. Raises KeyError."""
        return self._jobs[job_id].job

    def knows(self, job_id: str) -> bool:
        """Say whether the job is here."""
        return job_id in self._jobs

    def family(self, job_id: str) -> list[str]:
        """List a job and those that were started for it, as far as they are here."""
        return [each for each in self._jobs if job_id in _ancestors(each)]

    def is_waiting(self, job_id: str) -> bool:
        """Say whether the job is here and has not started."""
        entry = self._jobs.get(job_id)
        return entry is not None and _has_not_started(entry)

    def waiting(self) -> list[Job]:
        """List the jobs that have not started."""
        return [entry.job for entry in self._jobs.values() if _has_not_started(entry)]

    def bury(self, job_id: str, now: float) -> None:
        """Remember a cancel that came before its job. `now` is in monotonic seconds."""
        self._tombstones[job_id] = now + TOMBSTONE_SECONDS
        while len(self._tombstones) > MAX_TOMBSTONES:
            self._tombstones.popitem(last=False)

    def is_buried(self, job_id: str, now: float) -> bool:
        """Say whether the job, or one that it was started for, was cancelled before it came."""
        return any(now < self._tombstones.get(each, now) for each in _ancestors(job_id))


def _ancestors(job_id: str) -> list[str]:
    """List a job and those that it was started for: `a:b` was started for `a`.

    A mega-service names the jobs of its stages so.
    """
    words = job_id.split(":")
    return [":".join(words[: count + 1]) for count in range(len(words))]


def _has_not_started(entry: _Entry) -> bool:
    return entry.stage in (Stage.TAKEN, Stage.WAITING)


def _replaced(old: Asker, new: Asker) -> bool:
    """Say whether `new` is the broker's redelivery of `old` after a lost connection."""
    return (
        new.delivery.redelivered
        and old.delivery.generation < new.delivery.generation
        and old.job.envelope.reply_to == new.job.envelope.reply_to
        and old.job.envelope.correlation_id == new.job.envelope.correlation_id
    )
