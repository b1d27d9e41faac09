"""OpenAI's interface: images, models. docs/openai.md says what becomes of each parameter.

POST /v1/images/generations   -> images, or with `stream` their making as server-sent events
GET  /v1/models               -> what live nodes make images with
GET  /v1/models/{id}
"""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Response
from pydantic import PlainValidator

from contracts.message import JSON_CONTENT_TYPE, Message
from contracts.text2image import TEXT2IMAGE, Text2ImageRequest, Text2ImageResult
from node.errors import ModelNotAvailable
from orchestrator_example.gateway.access import JSON_ONLY, Call, Desk
from orchestrator_example.gateway.job import Job
from orchestrator_example.gateway.jobs_answer import image_urls
from orchestrator_example.gateway.openai_answer import (
    ImageData,
    ImagesAnswer,
    Model,
    ModelList,
    images_answer,
    models_of,
)
from orchestrator_example.gateway.openai_errors import OpenAIError
from orchestrator_example.gateway.openai_request import (
    ImagesRequest,
    Wanted,
    in_our_models,
    read,
)
from orchestrator_example.gateway.openai_stream import streamed, succeeded
from orchestrator_example.gateway.problems import RETRY_AFTER
from orchestrator_example.gateway.sse import event_stream

OPENAI_PATHS: Final = ("/v1/images", "/v1/models")
"""What begins like this is answered in OpenAI's words, errors of all kinds too."""

_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": OpenAIError, "description": text, "headers": RETRY_AFTER}
    for status, text in {
        "4XX": "The request cannot be done as it is, or not by this caller.",
        "5XX": "It did not work out.",
    }.items()
}
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The images; with `stream` the events `image_generation.partial_image` and "
        "`image_generation.completed`, at last `error` where it did not work out.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


async def _attendance() -> AsyncIterator[AsyncExitStack]:
    """Give what is to be left once the answer is out, or the caller is gone."""
    async with AsyncExitStack() as stack:
        yield stack


@dataclass(frozen=True, slots=True)
class OpenAICall(Call):
    """One call of this door, attended until its answer, a stream perhaps, is out."""

    attendance: Annotated[AsyncExitStack, Depends(_attendance)]

    async def begin(self, request: Text2ImageRequest) -> Job:
        """Have images made; a caller who hangs up does not want them. Raises what the desk does."""
        job = await self.submit(TEXT2IMAGE, request)
        await self.attendance.enter_async_context(self.desk.attended(self.request, job))
        return job


router: Final = APIRouter(tags=["OpenAI"], responses=_ERRORS)
"""The routes of this door."""


@router.post(
    "/v1/images/generations",
    response_model=ImagesAnswer,
    responses=_ANSWERS,
    dependencies=[JSON_ONLY],
)
async def generate(
    wanted: Annotated[Wanted, PlainValidator(read, json_schema_input_type=ImagesRequest), Body()],
    call: Annotated[OpenAICall, Depends()],
) -> Response:
    """Make images from a prompt."""
    wanted = in_our_models(wanted, call.desk.settings.openai_models)
    job = await call.begin(wanted.request)
    if wanted.stream:
        return event_stream(streamed(call.desk, job, wanted, call.statistics))
    with call.statistics.measured(TEXT2IMAGE):
        result = succeeded(await call.desk.result(job))
        data = await _data(call, job, result, links=wanted.links)
    return _answer(images_answer(result, data, int(time.time()), wanted.warnings))


@router.get("/v1/models", response_model=ModelList)
async def list_models(desk: Desk) -> Response:
    """List the models that live nodes make images with."""
    return _answer(ModelList(data=models_of(desk.directory.services())))


@router.get("/v1/models/{model:path}", response_model=Model)
async def show_model(model: str, desk: Desk) -> Response:
    """Show one model."""
    models = {each.id: each for each in models_of(desk.directory.services())}
    if model not in models:
        raise ModelNotAvailable(
            f"no node offers the model {model[:200]!r}; offered are: {', '.join(models)}"
        )
    return _answer(models[model])


async def _data(call: Call, job: Job, result: Text2ImageResult, *, links: bool) -> list[ImageData]:
    seeds = [image.seed for image in result.images]
    if links:
        urls = image_urls(job, call.request.app.state.links, call.request)
        return [ImageData(url=url, seed=seed) for url, seed in zip(urls, seeds, strict=True)]
    files = await call.desk.files(result.images)
    return [ImageData(b64_json=file, seed=seed) for file, seed in zip(files, seeds, strict=True)]


def _answer(body: Message) -> Response:
    # FastAPI would read what was written once more, images included.
    return Response(body.model_dump_json(exclude_none=True), media_type=JSON_CONTENT_TYPE)
