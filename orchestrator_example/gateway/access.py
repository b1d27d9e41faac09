"""What doors get from the gateway: its desk, its settings, and who calls."""

from typing import Annotated, cast

from fastapi import Depends, Header, Request

from orchestrator_example.gateway.desk import JobDesk, idempotent_id
from orchestrator_example.gateway.errors import BadRequest
from orchestrator_example.gateway.job import Job
from orchestrator_example.gateway.keys import Caller

MAX_KEY_CHARS = 255


def _desk(request: Request) -> JobDesk:
    return cast("JobDesk", request.app.state.desk)


def _caller(request: Request) -> Caller:
    return cast("Caller", request.state.caller)


Desk = Annotated[JobDesk, Depends(_desk)]
WhoCalls = Annotated[Caller, Depends(_caller)]


def _job_id(
    caller: WhoCalls,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="The same key again is the same job; with another request it is refused."
        ),
    ] = None,
) -> str | None:
    if idempotency_key is None:
        return None
    if not 1 <= len(idempotency_key) <= MAX_KEY_CHARS:
        raise BadRequest(f"Idempotency-Key has 1 to {MAX_KEY_CHARS} characters")
    return idempotent_id(caller, idempotency_key)


GivenJobId = Annotated[str | None, Depends(_job_id)]
"""The id that belongs to the caller's Idempotency-Key; None without one."""


async def _own_job(request: Request, job_id: str, desk: Desk, caller: WhoCalls) -> Job:
    job = await desk.find(job_id, caller)
    request.state.job_id = job.id
    return job


OwnJob = Annotated[Job, Depends(_own_job)]
"""The job that the path names, if it is the caller's own."""
