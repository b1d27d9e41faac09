"""OpenAI's interface, in front of a desk whose jobs do as the test says."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from contracts import examples
from contracts.events import ImageEvent, JobEvent, PreviewEvent, ProgressEvent
from contracts.failure import FailureCode, Problem
from contracts.message import Message
from contracts.result import JobResult
from contracts.text2image import GeneratedImage, Text2ImageResult
from node.errors import ArtifactMissing, ModelNotAvailable, NodeError
from orchestrator_example.gateway.answering import add_refusals
from orchestrator_example.gateway.desk import idempotent_id
from orchestrator_example.gateway.errors import TooManyRequests
from orchestrator_example.gateway.feed import Numbered
from orchestrator_example.gateway.job import Job
from orchestrator_example.gateway.keys import Caller
from orchestrator_example.gateway.links import Links
from orchestrator_example.gateway.openai_door import router
from orchestrator_example.gateway.settings import GatewaySettings
from orchestrator_example.gateway.statistics import ServiceStatistics
from tests.harness import until
from tests.unit.orchestrator_example.gateway.asgi import Exchange, called_by, chunks, seen_by_guards
from tests.unit.orchestrator_example.gateway.test_openai_answer import entry

PROMPT = examples.PROMPT
CALLER = Caller("someone")
URL = "/v1/images/generations"


def image(index: int, **given: Any) -> dict[str, Any]:
    return examples.IMAGE | {"index": index, "seed": 40 + index, "b64_json": f"aW1n{index}"} | given


def event(kind: type[Any], **fields: Any) -> JobEvent:
    made: JobEvent = kind(job_id="j", sequence=1, time=examples.TIME, **fields)
    return made


def preview(step: int) -> JobEvent:
    return event(PreviewEvent, step=step, b64_json=f"cHJl{step}", media_type="image/jpeg")


class ScriptedDesk:
    """Takes jobs, or raises. They tell the events of the script, then end; or wait for ever."""

    def __init__(self) -> None:
        self.settings = GatewaySettings(timeout_seconds=30)
        self.directory = SimpleNamespace(services=lambda: [entry("org/model", "sd")])
        self.submitted: list[tuple[str, Message, Caller, dict[str, Any]]] = []
        self.attended_jobs: list[Job] = []
        self.left_jobs: list[Job] = []
        self.refuses: NodeError | None = None
        self.store_fails: NodeError | None = None
        self.script: list[JobEvent] = []
        self.ends = True
        self.result_fields: dict[str, Any] = {"images": [image(0)]}

    async def submit(self, service: str, request: Message, caller: Caller, **given: Any) -> Job:
        self.submitted.append((service, request, caller, given))
        if self.refuses is not None:
            raise self.refuses
        job = Job(service, request, caller.name, job_id=given["job_id"])
        for each in self.script:
            job.tell(each)
        if self.ends:
            job.end(self.made(job))
        return job

    def made(self, job: Job) -> Text2ImageResult:
        fields = {"job_id": job.id, "status": "succeeded"} | self.result_fields
        return Text2ImageResult.model_validate(fields)

    @asynccontextmanager
    async def attended(self, _: Request, job: Job) -> AsyncIterator[None]:
        self.attended_jobs.append(job)
        try:
            yield
        finally:
            self.left_jobs.append(job)

    def events(self, job: Job) -> AsyncIterator[Numbered]:
        return job.feed.follow(0)

    async def result(self, job: Job) -> JobResult:
        await job.ended.wait()
        assert job.result is not None
        return job.result

    async def files(self, images: list[GeneratedImage]) -> list[str]:
        if self.store_fails is not None:
            raise self.store_fails
        return [each.b64_json or f"fetched from {each.uri}" for each in images]

    def fail(self, code: FailureCode, detail: str) -> None:
        problem = Problem.of(code, detail, job_id="job", retryable=False)
        self.result_fields = {"status": "failed", "error": problem}


@pytest.fixture
def desk() -> ScriptedDesk:
    return ScriptedDesk()


@pytest.fixture
def app(desk: ScriptedDesk) -> FastAPI:
    app = FastAPI()
    app.state.desk = desk
    app.state.settings = desk.settings
    app.state.links = Links("secret", 60.0)
    app.state.statistics = ServiceStatistics(["text2image"], clock=lambda: 0.0)
    app.include_router(router)
    add_refusals(app)
    return app


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with called_by(CALLER, app) as client:
        yield client


async def post(http: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await http.post(URL, json={"prompt": PROMPT, **body})


async def streamed(http: httpx.AsyncClient, **body: Any) -> list[tuple[str, dict[str, Any]]]:
    """Read the events of a whole stream, comments left out."""
    answer = await post(http, stream=True, **body)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [block for block in answer.text.split("\n\n") if block and block[0] != ":"]
    pairs = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    return [(pair["event"], json.loads(pair["data"])) for pair in pairs]


async def test_images_come_in_base64_with_what_made_them(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    desk.result_fields = {"images": [image(0), image(1)], "model": "sd", "warnings": ["slow"]}
    answer = await post(http, n=2, quality="hd")
    assert answer.status_code == 200
    body = answer.json()
    assert body["data"] == [{"b64_json": "aW1n0", "seed": 40}, {"b64_json": "aW1n1", "seed": 41}]
    assert (body["size"], body["output_format"], body["model"]) == ("128x128", "png", "sd")
    assert body["warnings"] == ["quality 'hd' has no effect: num_inference_steps has", "slow"]
    assert isinstance(body["created"], int)


async def test_a_job_is_submitted_for_its_caller_with_the_time_that_a_call_has(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    headers = {"Idempotency-Key": "k"}
    answer = await http.post(URL, json={"prompt": PROMPT, "seed": 7}, headers=headers)
    ((service, request, caller, given),) = desk.submitted
    assert (service, caller) == ("text2image", CALLER)
    assert request.model_dump(exclude_defaults=True) == {"prompt": PROMPT, "seed": 7}
    assert given == {"job_id": idempotent_id(CALLER, "k"), "deadline_seconds": 30}
    assert answer.json()["id"] == given["job_id"]
    assert len(desk.attended_jobs) == 1
    assert desk.left_jobs == desk.attended_jobs


async def test_images_in_a_store_are_fetched(http: httpx.AsyncClient, desk: ScriptedDesk) -> None:
    desk.result_fields = {"images": [image(0, b64_json=None, uri="file:///x.png")]}
    assert (await post(http)).json()["data"][0]["b64_json"] == "fetched from file:///x.png"


async def test_links_are_absolute_and_signed(
    http: httpx.AsyncClient, app: FastAPI, desk: ScriptedDesk
) -> None:
    desk.result_fields = {"images": [image(0), image(1)]}
    body = (await post(http, n=2, response_format="url")).json()
    for index, data in enumerate(body["data"]):
        assert data.keys() == {"url", "seed"}
        url = httpx.URL(data["url"])
        assert (url.host, url.path) == ("gateway", f"/v1/files/{body['id']}/{index}")
        expires, signature = int(url.params["expires"]), url.params["signature"]
        app.state.links.check(body["id"], index, expires, signature)


async def test_a_stream_shows_unfinished_images_then_finished_ones(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    progress = event(ProgressEvent, step=1, num_inference_steps=4, fraction=0.25)
    desk.script = [progress, preview(1), preview(2), event(ImageEvent, **image(0)), preview(3)]
    desk.result_fields = {"images": [image(0), image(1)], "warnings": ["slow"]}
    events = await streamed(http, n=2, partial_images=2, style="vivid")
    assert [name for name, _ in events] == [body["type"] for _, body in events]
    fields = ("partial_image_index", "index", "b64_json")
    told = [tuple(body.get(field) for field in fields) for _, body in events]
    assert told == [
        (0, None, "cHJl1"),
        (1, None, "cHJl2"),
        (None, 0, "aW1n0"),
        (2, None, "cHJl3"),
        (None, 1, "aW1n1"),
    ]
    hint = "style 'vivid' has no effect: say it in the prompt"
    assert [body["warnings"] for _, body in events if "index" in body] == [[hint], [hint, "slow"]]


async def test_images_whose_events_were_lost_come_with_the_result(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    desk.result_fields = {"images": [image(0), image(1), image(2)]}
    events = await streamed(http, n=3)
    assert [body["index"] for _, body in events] == [0, 1, 2]


async def test_a_job_that_began_again_shows_no_image_twice_and_no_more_than_asked(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    once = [preview(1), event(ImageEvent, **image(0))]
    desk.script = [*once, *once, *once]
    desk.result_fields = {"images": [image(0), image(1)]}
    events = await streamed(http, n=2, partial_images=1)
    assert [body.get("index") for _, body in events] == [None, 0, None, 1]


async def test_without_partial_images_a_stream_is_the_image(http: httpx.AsyncClient) -> None:
    ((name, body),) = await streamed(http)
    assert (name, body["b64_json"], body["size"]) == (
        "image_generation.completed",
        "aW1n0",
        "128x128",
    )


async def test_a_stream_whose_job_fails_ends_with_an_error(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    desk.script = [preview(1)]
    desk.fail(FailureCode.INVALID_REQUEST, "width: 8 is outside of 64..1024")
    events = await streamed(http, partial_images=1)
    assert [name for name, _ in events] == ["image_generation.partial_image", "error"]
    assert events[-1][1] == {
        "error": {
            "message": "width: 8 is outside of 64..1024",
            "type": "invalid_request_error",
            "param": "size",
            "code": "invalid_value",
        }
    }


async def test_a_stream_whose_image_is_gone_ends_with_an_error(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    desk.store_fails = ArtifactMissing("past its retention")
    ((name, body),) = await streamed(http)
    assert (name, body["error"]["message"]) == ("error", "past its retention")


async def test_what_is_not_taken_is_no_stream(http: httpx.AsyncClient, desk: ScriptedDesk) -> None:
    desk.refuses = TooManyRequests("one a minute", 7)
    answer = await post(http, stream=True)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"


async def test_a_caller_who_hangs_up_leaves_the_job_of_a_stream(
    app: FastAPI, desk: ScriptedDesk
) -> None:
    desk.ends = False
    body = json.dumps({"prompt": PROMPT, "stream": True}).encode()
    headers = {"content-type": "application/json"}
    hung_up = Exchange(chunks(body), path=URL, headers=headers, hangs_up=True)
    await hung_up.run(seen_by_guards(CALLER, app))
    assert len(desk.attended_jobs) == 1
    assert desk.left_jobs == desk.attended_jobs


async def test_a_job_is_attended_as_long_as_its_stream_goes_on(
    app: FastAPI, desk: ScriptedDesk
) -> None:
    desk.ends = False
    body = json.dumps({"prompt": PROMPT, "stream": True, "partial_images": 1}).encode()
    exchange = Exchange(chunks(body), path=URL, headers={"content-type": "application/json"})
    answering = asyncio.create_task(exchange.run(seen_by_guards(CALLER, app)))
    await until(lambda: exchange.sent, "the head of the answer")
    (job,) = desk.attended_jobs
    job.tell(preview(1))
    await until(lambda: b"cHJl1" in exchange.body, "the unfinished image, before the job ended")
    assert desk.left_jobs == []
    job.end(desk.made(job))
    await answering
    assert b"image_generation.completed" in exchange.body
    assert desk.left_jobs == [job]


async def test_a_job_that_failed_is_an_error_in_openai_s_shape(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    desk.fail(FailureCode.SAFETY_REFUSED, "no")
    answer = await post(http)
    assert answer.status_code == 400
    assert answer.json() == {
        "error": {
            "message": "no",
            "type": "invalid_request_error",
            "param": None,
            "code": "content_policy_violation",
        }
    }


async def test_a_model_that_nobody_offers_is_not_found(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    desk.refuses = ModelNotAvailable("no node offers the model 'dall-e-3'; offered are: sd")
    answer = await post(http, model="dall-e-3")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "no JSON, at character 1"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b"", "must be an object"),
        (b"\xff", "UTF-8"),
        (b'{"prompt": "a", "guidance_scale": NaN}', "finite"),
        (b'{"prompt": "\\ud800"}', "prompt"),
        (b'{"prompt": "a", "\\ud800": 1}', ""),
        (b'{"prompt": "a", "metadata": {"user": 3}}', "metadata"),
        (b'{"prompt": "a", "seed": 1e999}', "seed"),
    ],
)
async def test_what_is_no_request_is_a_bad_request(
    http: httpx.AsyncClient, desk: ScriptedDesk, content: bytes, says: str
) -> None:
    answer = await http.post(URL, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert says in error["message"]
    assert error["message"]
    assert desk.submitted == []


async def test_a_body_that_does_not_say_it_is_json_is_not_read(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    answer = await http.post(URL, content=b'{"prompt": "a"}')
    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json()["error"]["message"]
    assert desk.submitted == []


@pytest.mark.parametrize("path", ["/v1/images/edits", "/v1/images/variations", "/v1/models"])
async def test_what_is_not_there_says_so_in_openai_s_shape(
    http: httpx.AsyncClient, path: str
) -> None:
    answer = await http.post(path, json={"prompt": PROMPT})
    assert answer.status_code in (404, 405)
    assert answer.json()["error"]["message"]


async def test_models_are_listed_and_shown_by_names_with_a_slash(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["org/model", "sd"]
    for path in ("org/model", "org%2Fmodel"):
        assert (await http.get(f"/v1/models/{path}")).json() == listed["data"][0]


async def test_a_model_that_is_not_there_is_not_found(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/models/dall-e-3")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "model_not_found"
    assert error["message"] == "no node offers the model 'dall-e-3'; offered are: org/model, sd"


async def test_calls_are_counted_streams_too(
    http: httpx.AsyncClient, app: FastAPI, desk: ScriptedDesk
) -> None:
    await post(http)
    await post(http, stream=True)
    desk.fail(FailureCode.GENERATION_FAILED, "no")
    await post(http)
    await post(http, stream=True)
    figures = app.state.statistics.figures()["opea_service@text2image"]
    assert (figures.requests, figures.failures) == (4, 2)


def test_the_openapi_document_has_what_is_sent_and_answered(app: FastAPI) -> None:
    post = app.openapi()["paths"][URL]["post"]
    sent = post["requestBody"]["content"]["application/json"]["schema"]
    assert sent == {"$ref": "#/components/schemas/ImagesRequest"}
    answered = post["responses"]["200"]["content"]
    assert answered["application/json"]["schema"] == {"$ref": "#/components/schemas/ImagesAnswer"}
    assert "text/event-stream" in answered
    refused = post["responses"]["4XX"]["content"]["application/json"]["schema"]
    assert refused == {"$ref": "#/components/schemas/OpenAIError"}
