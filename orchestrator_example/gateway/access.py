"""What doors get from the gateway: its desk, its settings, and who calls."""

from dataclasses import dataclass
from typing import Annotated, Final, cast

from fastapi import Depends, Header, Request

from contracts.message import JSON_CONTENT_TYPE, Message
from node.errors import UnsupportedContentType
from orchestrator_example.gateway.desk import JobDesk, idempotent_id
from orchestrator_example.gateway.errors import BadRequest
from orchestrator_example.gateway.job import Job
from orchestrator_example.gateway.keys import Caller
from orchestrator_example.gateway.links import Links
from orchestrator_example.gateway.statistics import ServiceStatistics

MAX_KEY_CHARS: Final = 255


def _check_content_type(request: Request) -> None:
    """Take bodies only that say they are JSON. Raises UnsupportedContentType.

    Any other one, and one that says nothing, a page of any origin can have a browser send.
    """
    given = request.headers.get("content-type", "")
    if given.split(";")[0].strip().lower() != JSON_CONTENT_TYPE:
        raise UnsupportedContentType(
            f"the content type is {given[:80]!r}; send the header "
            f"`Content-Type: {JSON_CONTENT_TYPE}` (curl: -H 'Content-Type: {JSON_CONTENT_TYPE}')"
        )


JSON_ONLY: Final = Depends(_check_content_type)
"""For doors that take a body."""


def _desk(request: Request) -> JobDesk:
    return cast("JobDesk", request.app.state.desk)


def _links(request: Request) -> Links:
    return cast("Links", request.app.state.links)


def _caller(request: Request) -> Caller:
    return cast("Caller", request.state.caller)


Desk = Annotated[JobDesk, Depends(_desk)]
PictureLinks = Annotated[Links, Depends(_links)]
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


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a door that answers with pictures."""

    request: Request
    desk: Desk
    caller: WhoCalls
    job_id: GivenJobId

    @property
    def statistics(self) -> ServiceStatistics:
        """What is measured of all calls."""
        return cast("ServiceStatistics", self.request.app.state.statistics)

    async def submit(self, service: str, request: Message) -> Job:
        """Have a request done, as long as a caller may wait. Raises what the desk does."""
        job = await self.desk.submit(
            service,
            request,
            self.caller,
            job_id=self.job_id,
            deadline_seconds=self.desk.settings.timeout_seconds,
        )
        self.request.state.job_id = job.id
        return job
