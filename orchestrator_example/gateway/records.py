"""Jobs that outlive the gateway, at one fsspec URL: their requests, and how they ended.

    <url>/jobs/<ab>/<sha256 of the job id>

A gateway that does not know a job reads its record, and waits for it under the same id.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, JsonValue, ValidationError

from contracts.service import ServiceContract
from node.errors import StoreUnavailable
from node.stores.objects import Objects
from orchestrator_example.gateway.job import Job

FOLDER: Final = "jobs"
TIMEOUT_SECONDS: Final = 5.0
WAITING_SECONDS: Final = 7 * 86400.0


class _Record(BaseModel):
    id: str
    service: str
    owner: str
    submitted_at: float
    deadline: float | None
    priority: int
    cancel_requested: bool = False
    request: dict[str, JsonValue]
    result: dict[str, JsonValue] | None


class JobRecords:
    """Keeps jobs by their ids. Every method raises StoreUnavailable."""

    def __init__(self, url: str, services: Mapping[str, ServiceContract]) -> None:
        self._objects = Objects(url, TIMEOUT_SECONDS)
        self._services = services

    async def keep(self, job: Job) -> None:
        """Write what is known of a job."""
        record = _Record(
            id=job.id,
            service=job.service,
            owner=job.owner,
            submitted_at=job.submitted_at,
            deadline=job.deadline,
            priority=job.priority,
            cancel_requested=job.cancel_requested,
            request=job.request.model_dump(mode="json"),
            result=None if job.result is None else job.result.model_dump(mode="json"),
        )
        await self._objects.write(_path(job.id), record.model_dump_json().encode())

    async def find(self, job_id: str) -> Job | None:
        """Read a job; None when there is none of a service that is known here."""
        data = await self._objects.read(_path(job_id))
        if data is None:
            return None
        try:
            record = _Record.model_validate_json(data)
            contract = self._services.get(record.service)
            return None if contract is None else _job(record, contract)
        except ValidationError as error:
            raise StoreUnavailable(f"the record of job {job_id} is damaged: {error}") from error

    async def drop(self, job_id: str) -> None:
        """Delete the record of a job."""
        await self._objects.remove_older(_path(job_id), math.inf)

    async def sweep(self, max_age_seconds: float) -> int:
        """Delete what was written longer ago about jobs that ended, or will not; return how many.

        A job may wait in its queue for longer: what is not known to have ended stays for a week.
        """
        now = await self._objects.now()
        before, before_all = now - max_age_seconds, now - max(WAITING_SECONDS, max_age_seconds)
        removed = 0
        for name, modified in (await self._objects.modified(FOLDER)).items():
            if modified < before_all or (modified < before and await self._has_ended(name)):
                removed += await self._objects.remove_older(name, before)
        return removed

    async def _has_ended(self, name: str) -> bool:
        data = await self._objects.read(name)
        try:
            return data is None or _Record.model_validate_json(data).result is not None
        except ValidationError:
            return True


def _job(record: _Record, contract: ServiceContract) -> Job:
    job = Job(
        record.service,
        contract.request.model_validate(record.request),
        record.owner,
        job_id=record.id,
        deadline=record.deadline,
        priority=record.priority,
        keeps_on=True,
        submitted_at=record.submitted_at,
    )
    job.cancel_requested = record.cancel_requested
    job.take()
    if record.result is not None:
        job.end(contract.result.model_validate(record.result))
    return job


def _path(job_id: str) -> str:
    digest = hashlib.sha256(job_id.encode()).hexdigest()
    return f"{FOLDER}/{digest[:2]}/{digest}"
