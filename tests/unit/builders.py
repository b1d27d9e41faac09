"""Small values that many unit tests begin with."""

import base64
import hashlib
from typing import Any

from contracts.failure import FailureCode, Problem
from contracts.result import JobResult, Status
from contracts.text2image import (
    EffectiveParameters,
    GeneratedImage,
    ResponseKind,
    Text2ImageRequest,
    Text2ImageResult,
)
from node.errors import Disposition
from node.job import Envelope, Job, Outcome
from node.ports import Delivery, IncomingMessage, Properties

PROMPT = "An astronaut riding a green horse"


def envelope(job_id: str = "job", **given: Any) -> Envelope:
    return Envelope(**{"job_id": job_id, "reply_to": "replies", "correlation_id": "mine"} | given)


def job(job_id: str = "job", *, fingerprint: str = "same", **given: Any) -> Job:
    where = envelope(job_id, **given.pop("envelope", {}))
    values = {"request": Text2ImageRequest(prompt=PROMPT), "received_at": 0.0} | given
    return Job(envelope=where, fingerprint=fingerprint, **values)


def incoming(body: bytes = b"{}", **properties: Any) -> IncomingMessage:
    return IncomingMessage("", "text2image", body, Properties(**properties))


def delivery(queue: str = "text2image", *, tag: int = 1, **given: Any) -> Delivery:
    values = {"message": incoming(b"original"), "generation": 1} | given
    return Delivery(queue=queue, tag=tag, **values)


def succeeded(job_id: str = "job", **given: Any) -> Outcome:
    return Outcome(Text2ImageResult(job_id=job_id, status=Status.SUCCEEDED, **given))


def failed(
    job_id: str = "job",
    *,
    code: FailureCode = FailureCode.INVALID_REQUEST,
    disposition: Disposition = Disposition.DEAD_LETTER,
    attempt: int = 1,
    detail: str = "what went wrong",
) -> Outcome:
    problem = Problem.of(code, detail, job_id=job_id, retryable=False, attempt=attempt)
    result: JobResult = Text2ImageResult(job_id=job_id, status=Status.FAILED, error=problem)
    return Outcome(result, disposition)


def image(data: bytes = b"png", index: int = 0) -> GeneratedImage:
    return GeneratedImage(
        index=index,
        b64_json=base64.b64encode(data).decode(),
        media_type="image/png",
        width=64,
        height=64,
        seed=1,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def with_images(*images: GeneratedImage, by_reference: bool = False) -> Text2ImageResult:
    response = ResponseKind.REFERENCE if by_reference else ResponseKind.INLINE
    return Text2ImageResult(
        job_id="job",
        status=Status.SUCCEEDED,
        images=list(images),
        parameters=EffectiveParameters(prompt=PROMPT, response=response),
    )
