"""The events of a job as OpenAI's clients read them: unfinished images, finished ones, an error."""

import time
from collections.abc import AsyncIterator

from fastapi.sse import format_sse_event

from contracts.events import ImageEvent, PreviewEvent
from contracts.result import JobResult, Status
from contracts.text2image import Text2ImageResult
from node.errors import JobNotSucceeded, NodeError
from orchestrator_example.gateway.desk import JobDesk
from orchestrator_example.gateway.job import Job
from orchestrator_example.gateway.openai_answer import (
    CompletedImage,
    PartialImage,
    completed_image,
    partial_image,
)
from orchestrator_example.gateway.openai_errors import openai_error
from orchestrator_example.gateway.openai_request import Wanted
from orchestrator_example.gateway.statistics import ServiceStatistics


async def streamed(
    desk: JobDesk, job: Job, wanted: Wanted, statistics: ServiceStatistics
) -> AsyncIterator[bytes]:
    """Tell of a job as it goes on; one that does not succeed ends with the event `error`."""
    try:
        with statistics.measured(job.service):
            async for told in _told(desk, job, wanted):
                yield format_sse_event(data_str=told.model_dump_json(), event=told.type)
    except NodeError as error:
        yield format_sse_event(data_str=openai_error(error).model_dump_json(), event="error")


async def _told(
    desk: JobDesk, job: Job, wanted: Wanted
) -> AsyncIterator[PartialImage | CompletedImage]:
    """Raises JobNotSucceeded, and what reading files does."""
    last = wanted.request.num_images_per_prompt - 1
    finished: set[int] = set()
    shown = 0
    async for each in desk.events(job):
        event = each.event
        # A job that is begun again elsewhere tells everything once more.
        if isinstance(event, PreviewEvent) and shown < wanted.request.previews:
            yield partial_image(event, wanted.request, shown, _now())
            shown += 1
        # The last image comes with the result, which has the warnings of the model.
        elif isinstance(event, ImageEvent) and event.index < last and event.index not in finished:
            finished.add(event.index)
            (b64_json,) = await desk.files([event])
            yield completed_image(event, b64_json, _now(), wanted.warnings)
    result = succeeded(await desk.result(job))
    left = [image for image in result.images if image.index not in finished]
    for image in left:
        (b64_json,) = await desk.files([image])
        warnings = [*wanted.warnings, *result.warnings] if image is left[-1] else wanted.warnings
        yield completed_image(image, b64_json, _now(), warnings)


def succeeded(result: JobResult) -> Text2ImageResult:
    """Return a result with its images. Raises JobNotSucceeded for any other."""
    if result.status is not Status.SUCCEEDED:
        raise JobNotSucceeded(result)
    assert isinstance(result, Text2ImageResult)
    return result


def _now() -> int:
    return int(time.time())
