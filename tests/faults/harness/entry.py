"""One job in the books, and what its results are worth."""

import asyncio
import base64
from dataclasses import dataclass, field
from pathlib import Path

from contracts.result import Status
from contracts.text2image import GeneratedImage, Text2ImageRequest, Text2ImageResult
from tests.faults.harness.paced import expected_image


@dataclass(slots=True)
class Entry:
    """One job in the books."""

    job_id: str
    request: Text2ImageRequest
    ends: frozenset[str]
    raw: bool = False
    confirmed: bool = False
    asked: int = 0
    waiting: "asyncio.Task[None] | None" = None
    visible: list[Text2ImageResult] = field(default_factory=list)
    copies: list[Text2ImageResult] = field(default_factory=list)


def ending(result: Text2ImageResult) -> str:
    """Say how a job ended, in one word."""
    if result.status is Status.FAILED and result.error is not None:
        return result.error.code.value
    return result.status.value


def is_right(entry: Entry, result: Text2ImageResult) -> bool:
    """Say whether the files are byte for byte those that the request asks for."""
    made = [_file_of(image) for image in result.images]
    count = entry.request.num_images_per_prompt
    return made == [expected_image(entry.request, index) for index in range(count)]


def _file_of(image: GeneratedImage) -> bytes:
    if image.uri is not None:
        return Path(image.uri.removeprefix("file://")).read_bytes()
    return base64.b64decode(image.b64_json or "")
