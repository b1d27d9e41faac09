"""One job in the books, and what its results are worth."""

import asyncio
import base64
from dataclasses import dataclass, field
from pathlib import Path

from contracts.message import Message
from contracts.result import JobResult, Status
from contracts.text2image import GeneratedImage, Text2ImageRequest, Text2ImageResult
from tests.faults.harness.paced import expected_image


@dataclass(slots=True)
class Entry:
    """One job in the books."""

    job_id: str
    request: Message
    ends: frozenset[str]
    raw: bool = False
    confirmed: bool = False
    asked: int = 0
    waiting: "asyncio.Task[None] | None" = None
    visible: list[JobResult] = field(default_factory=list)
    copies: list[JobResult] = field(default_factory=list)


def ending(result: JobResult) -> str:
    """Say how a job ended, in one word."""
    if result.status is Status.FAILED and result.error is not None:
        return result.error.code.value
    return result.status.value


def is_right(entry: Entry, result: Text2ImageResult) -> bool:
    """Say whether the files are byte for byte those that the request asks for."""
    request = entry.request
    assert isinstance(request, Text2ImageRequest)
    made = [_file_of(image) for image in result.images]
    count = request.num_images_per_prompt
    return made == [expected_image(request, index) for index in range(count)]


def _file_of(image: GeneratedImage) -> bytes:
    if image.uri is not None:
        return Path(image.uri.removeprefix("file://")).read_bytes()
    return base64.b64decode(image.b64_json or "")
