"""Jobs over HTTP: submit, look, watch, cancel; nobody has to hold a connection open.

POST /v1/jobs                     -> 202, Location
GET  /v1/jobs/{id}                -> where it is, at last with its result
GET  /v1/jobs/{id}/events         -> what happens, as it happens (Last-Event-ID replays)
GET  /v1/jobs/{id}/images/{index} -> the file of one picture
DELETE /v1/jobs/{id}              -> cancels it
"""

import base64
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import ValidationError

from contracts.message import JSON_CONTENT_TYPE, Message
from contracts.text2image import OutputFormat
from orchestrator_example.gateway.access import (
    JSON_ONLY,
    Desk,
    GivenJobId,
    OwnJob,
    PictureLinks,
    WhoCalls,
)
from orchestrator_example.gateway.desk import JobDesk
from orchestrator_example.gateway.errors import JobUnknown, ServiceUnknown
from orchestrator_example.gateway.job import Job
from orchestrator_example.gateway.jobs_answer import (
    JobList,
    JobSubmission,
    JobView,
    ServiceList,
    ServiceView,
    images_of,
    view_of,
)
from orchestrator_example.gateway.links import FILES_PATH
from orchestrator_example.gateway.problems import PROBLEMS
from orchestrator_example.gateway.schemas import schema_of
from orchestrator_example.gateway.sse import event_stream

MAX_LISTED: Final = 100
_ID_ELSEWHERE: Final = "the gateway names jobs; to ask for one again, send Idempotency-Key"

_LOCATION: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "headers": {
            "Location": {"description": "Path of the job", "schema": {"type": "string"}},
        }
    }
}
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events of the job, as `docs/gateway.md` lists them",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "The job has ended, and nothing is left to tell"},
}
_FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The file",
        "content": {
            each.media_type: {"schema": {"type": "string", "format": "binary"}}
            for each in OutputFormat
        },
    }
}


router: Final = APIRouter(tags=["jobs"], responses=PROBLEMS)
"""The routes of this door."""


@router.post(
    "/v1/jobs",
    status_code=202,
    response_model=JobView,
    responses=_LOCATION,
    dependencies=[JSON_ONLY],
)
async def submit_job(
    submission: JobSubmission,
    request: Request,
    desk: Desk,
    links: PictureLinks,
    caller: WhoCalls,
    job_id: GivenJobId,
) -> Response:
    """Submit a job; it is done whether or not anybody waits for it."""
    job = await desk.submit(
        submission.service,
        read_request(desk, submission),
        caller,
        job_id=job_id,
        deadline_seconds=submission.deadline_seconds,
        priority=submission.priority,
        keeps_on=True,
    )
    request.state.job_id = job.id
    answer = _answer(view_of(desk, job, links, request), status=202)
    answer.headers["Location"] = f"/v1/jobs/{job.id}"
    return answer


@router.get("/v1/jobs", response_model=JobList)
async def list_jobs(
    request: Request, desk: Desk, links: PictureLinks, caller: WhoCalls
) -> Response:
    """List the caller's jobs."""
    jobs = desk.jobs(caller)[:MAX_LISTED]
    views = [view_of(desk, job, links, request).model_copy(update={"result": None}) for job in jobs]
    return _answer(JobList(jobs=views))


@router.get("/v1/jobs/{job_id}", response_model=JobView)
async def show_job(request: Request, desk: Desk, links: PictureLinks, job: OwnJob) -> Response:
    """Say where a job is."""
    return _answer(view_of(desk, job, links, request))


@router.delete("/v1/jobs/{job_id}", status_code=202, response_model=JobView)
async def cancel_job(request: Request, desk: Desk, links: PictureLinks, job: OwnJob) -> Response:
    """Cancel a job; one that has ended stays as it is."""
    desk.cancel(job)
    return _answer(view_of(desk, job, links, request), status=202)


@router.get("/v1/jobs/{job_id}/events", response_class=StreamingResponse, responses=_STREAM)
async def watch_job(
    desk: Desk,
    job: OwnJob,
    last_event_id: Annotated[str, Header(description="Tell what came after this.")] = "",
) -> Response:
    """Stream what happens to a job; 204 once there is nothing more to tell."""
    after = job.feed.after(last_event_id)
    if job.feed.is_over(after):
        return Response(status_code=204)
    return event_stream(_told(desk, job, after))


@router.get("/v1/jobs/{job_id}/images/{index}", response_class=Response, responses=_FILE)
async def job_image(desk: Desk, job: OwnJob, index: int) -> Response:
    """Give the file of one picture."""
    return await _file(desk, job, index)


@router.get(FILES_PATH + "/{job_id}/{index}", response_class=Response, responses=_FILE)
async def linked_image(
    desk: Desk,
    links: PictureLinks,
    job_id: str,
    index: int,
    expires: Annotated[int, Query()],
    signature: Annotated[str, Query(max_length=64)],
) -> Response:
    """Give the file of one picture to who has the link to it."""
    links.check(job_id, index, expires, signature)
    answer = await _file(desk, await desk.find(job_id, None), index)
    answer.headers["Cache-Control"] = "private, max-age=3600, immutable"
    return answer


@router.get("/v1/services", response_model=ServiceList)
async def list_services(desk: Desk) -> Response:
    """List the services that jobs may go to."""
    there = [entry.name for entry in desk.directory.services()]
    views = [
        ServiceView(
            name=contract.name,
            description=contract.description,
            instances=there.count(contract.name),
            request_schema=schema_of(contract.request),
        )
        for contract in desk.services.values()
    ]
    return _answer(ServiceList(services=views))


def read_request(desk: JobDesk, submission: JobSubmission) -> Message:
    """Read the request in its service's words. Raises ServiceUnknown, RequestValidationError."""
    contract = desk.services.get(submission.service)
    if contract is None:
        known = ", ".join(sorted(desk.services))
        raise ServiceUnknown(f"no service {submission.service!r} is known; there are: {known}")
    try:
        request = contract.request.model_validate(submission.request)
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise RequestValidationError(
            [{**each, "loc": ("body", "request", *each["loc"])} for each in found]
        ) from error
    _check_id(submission, request)
    return request


def _check_id(submission: JobSubmission, request: Message) -> None:
    """Refuse the id that requests may name their job by where they come as messages."""
    if "id" in submission.request and not hasattr(request, "id"):
        fault = {"type": "extra_forbidden", "loc": ("body", "request", "id"), "msg": _ID_ELSEWHERE}
        raise RequestValidationError([{**fault, "input": submission.request["id"]}])


async def _told(desk: JobDesk, job: Job, after: int) -> AsyncIterator[bytes]:
    async for each in desk.events(job, after):
        event = each.event
        yield format_sse_event(
            data_str=event.model_dump_json(), event=str(event.event), id=job.feed.mark(each.number)
        )


async def _file(desk: JobDesk, job: Job, index: int) -> Response:
    images = images_of(job)
    if not 0 <= index < len(images):
        have = f"{len(images)} pictures" if job.result else f"no pictures yet, it is {job.state}"
        raise JobUnknown(f"the job has {have}; there is no number {index}")
    (b64_json,) = await desk.files([images[index]])
    return Response(base64.b64decode(b64_json), media_type=images[index].media_type)


def _answer(view: Message, status: int = 200) -> Response:
    # FastAPI would read what was written once more, pictures included.
    return Response(view.model_dump_json(), status, media_type=JSON_CONTENT_TYPE)
