"""OPEA's interface, in front of a desk whose jobs end as the test says."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI, Request

from contracts import examples
from contracts.failure import FailureCode, Problem
from contracts.guardrail import GuardrailRequest, GuardrailResult
from contracts.image2image import IMAGE2IMAGE, Image2ImageRequest, Image2ImageResult
from contracts.megaservice import MegaServiceRequest, MegaServiceResult
from contracts.message import Message
from contracts.result import JobResult, Status
from contracts.service import ServiceContract
from contracts.text2image import GeneratedImage, Text2ImageRequest
from node import __version__
from node.errors import (
    ArtifactMissing,
    BrokerUnavailable,
    Conflict,
    MessageTooLarge,
    ModelNotAvailable,
    NodeError,
    Overloaded,
)
from orchestrator_example.gateway.errors import Busy, TooManyRequests
from orchestrator_example.gateway.job import Job
from orchestrator_example.gateway.keys import ANONYMOUS, Caller
from orchestrator_example.gateway.opea_door import opea_router
from orchestrator_example.gateway.problems import problem_answer, refusal_of
from orchestrator_example.gateway.settings import GatewaySettings
from orchestrator_example.gateway.statistics import ServiceStatistics
from tests.unit.orchestrator_example.gateway.asgi import called_by

PROMPT = examples.PROMPT
PICTURE = "iVBORw0KGgo="
SERVICES = {
    each.name: each
    for each in (
        ServiceContract(),
        ServiceContract(IMAGE2IMAGE, Image2ImageRequest, Image2ImageResult),
        ServiceContract("painter", MegaServiceRequest, MegaServiceResult, has_stages=True),
        ServiceContract("guardrail", GuardrailRequest, GuardrailResult),
    )
}
STAGES = {"text2image": {"service": "text2image", "status": "succeeded", "output": {"seed": 1}}}


class ScriptedDesk:
    """Takes jobs, or raises; they end as it is told."""

    def __init__(self) -> None:
        self.settings = GatewaySettings(timeout_seconds=30)
        self.submitted: list[tuple[str, Message, Caller, dict[str, Any]]] = []
        self.attended_jobs: list[Job] = []
        self.refuses: NodeError | None = None
        self.store_fails: NodeError | None = None
        self.result_fields: dict[str, Any] = {"images": [examples.IMAGE]}

    async def submit(self, service: str, request: Message, caller: Caller, **given: Any) -> Job:
        self.submitted.append((service, request, caller, given))
        if self.refuses is not None:
            raise self.refuses
        return Job(service, request, caller.name, job_id=given["job_id"])

    @asynccontextmanager
    async def attended(self, request: Request, job: Job) -> AsyncIterator[None]:
        self.attended_jobs.append(job)
        yield

    async def result(self, job: Job) -> JobResult:
        fields = {"job_id": job.id, "status": "succeeded"} | self.result_fields
        return SERVICES[job.service].result.model_validate(fields)

    async def files(self, images: list[GeneratedImage]) -> list[str]:
        if self.store_fails is not None:
            raise self.store_fails
        return [image.b64_json or f"fetched from {image.uri}" for image in images]

    def end(self, code: FailureCode, detail: str, status: Status = Status.FAILED) -> None:
        problem = Problem.of(code, detail, job_id="job", retryable=False)
        self.result_fields = {"status": status, "error": problem}


@pytest.fixture
def desk() -> ScriptedDesk:
    return ScriptedDesk()


@pytest.fixture
def app(desk: ScriptedDesk) -> FastAPI:
    app = FastAPI(title="a gateway", description="what it is for")
    app.state.desk = desk
    app.state.statistics = ServiceStatistics(["text2image"], clock=lambda: 0.0)
    app.include_router(opea_router(SERVICES))

    @app.exception_handler(NodeError)
    async def refused(_: Request, error: NodeError) -> Any:
        return problem_answer(refusal_of(error))

    return app


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with called_by(ANONYMOUS, app) as client:
        yield client


async def post(http: httpx.AsyncClient, body: Any, service: str = "text2image") -> httpx.Response:
    return await http.post(f"/v1/{service}", json=body)


def warnings_of(answer: httpx.Response) -> list[str]:
    return answer.headers.get_list("x-warning")


def faults(answer: httpx.Response) -> list[dict[str, Any]]:
    """The list of a 422, whose every entry has OPEA's four keys."""
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/json"
    detail = answer.json()["detail"]
    assert isinstance(detail, list)
    for fault in detail:
        assert list(fault) == ["type", "loc", "msg", "input"]
        assert fault["loc"][0] == "body"
    return detail


@pytest.mark.parametrize("service", ["text2image", "image2image"])
async def test_pictures_come_in_opea_s_shape(
    http: httpx.AsyncClient, desk: ScriptedDesk, service: str
) -> None:
    body = {"prompt": PROMPT, "num_images_per_prompt": 1}
    extra = {"image": PICTURE} if service == "image2image" else {}
    answer = await post(http, body | extra, service)
    assert answer.status_code == 200
    assert list(answer.json()) == ["id", "images"]
    assert re.fullmatch(r"[0-9a-f]{32}", answer.json()["id"])
    assert answer.json()["images"] == [examples.IMAGE["b64_json"]]
    assert warnings_of(answer) == []
    name, request, caller, given = desk.submitted[0]
    assert (name, caller) == (service, ANONYMOUS)
    assert request == SERVICES[service].request.model_validate(body | extra)
    assert given == {"job_id": None, "deadline_seconds": 30}


async def test_a_caller_who_hangs_up_is_noticed(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    answer = await post(http, {"prompt": PROMPT})
    assert [job.id for job in desk.attended_jobs] == [answer.json()["id"]]


async def test_the_same_idempotency_key_is_the_same_job(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    headers = {"Idempotency-Key": "mine"}
    for _ in range(2):
        await http.post("/v1/text2image", json={"prompt": PROMPT}, headers=headers)
    first, second = (given["job_id"] for *_, given in desk.submitted)
    assert first == second
    assert re.fullmatch(r"[0-9a-f]{32}", first)


async def test_pictures_in_a_store_are_fetched(http: httpx.AsyncClient, desk: ScriptedDesk) -> None:
    desk.result_fields = {"images": [examples.IMAGE | {"b64_json": None, "uri": "file:///x.png"}]}
    answer = await post(http, {"prompt": PROMPT, "response": "reference"})
    assert answer.json()["images"] == ["fetched from file:///x.png"]


async def test_what_was_not_heeded_is_told_in_headers(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    desk.result_fields = {"images": [examples.IMAGE], "warnings": ["steps were cut to 4"]}
    answer = await post(http, {"prompt": PROMPT, "top_k": 10})
    assert list(answer.json()) == ["id", "images"]
    assert warnings_of(answer) == ["top_k: ignored, no such field", "steps were cut to 4"]
    assert desk.submitted[0][1] == Text2ImageRequest(prompt=PROMPT)


async def test_ignored_fields_are_logged_and_words_of_prompts_are_not(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    desk.result_fields = {"images": [examples.IMAGE], "warnings": ["'horse' is not known"]}
    with structlog.testing.capture_logs() as logs:
        await post(http, {"prompt": PROMPT, "top_k": 10})
    (line,) = logs
    assert line["event"] == "request.fields_ignored"
    assert line["why"] == ["top_k: ignored, no such field"]


async def test_a_warning_cannot_smuggle_a_header(http: httpx.AsyncClient) -> None:
    answer = await post(http, {"prompt": PROMPT, "x\r\nSet-Cookie: a=b": 1, "größe€\x7f": 1})
    assert "set-cookie" not in answer.headers
    assert warnings_of(answer) == [
        r"x\r\nSet-Cookie: a=b: ignored, no such field",
        r"gr\u00f6\u00dfe\u20ac\u007f: ignored, no such field",
    ]


async def test_many_warnings_take_little_room(http: httpx.AsyncClient, desk: ScriptedDesk) -> None:
    desk.result_fields = {"images": [examples.IMAGE], "warnings": ["w" * 10_000] * 100}
    answer = await post(http, {"prompt": PROMPT})
    assert sum(map(len, warnings_of(answer))) < 3000
    assert warnings_of(answer)[-1] == "90 more warnings"


async def test_each_fault_is_told_as_fastapi_tells_it(http: httpx.AsyncClient) -> None:
    assert faults(await post(http, {"prompt": "", "width": 513})) == [
        {
            "type": "string_too_short",
            "loc": ["body", "prompt"],
            "msg": "String should have at least 1 character",
            "input": "",
        },
        {
            "type": "multiple_of",
            "loc": ["body", "width"],
            "msg": "Input should be a multiple of 8",
            "input": 513,
        },
    ]


async def test_an_address_of_a_picture_is_refused_in_a_sentence(http: httpx.AsyncClient) -> None:
    body = {"prompt": PROMPT, "image": "https://example.org/horse.png"}
    (fault,) = faults(await post(http, body, "image2image"))
    assert fault["loc"] == ["body", "image"]
    assert "send the file itself in base64" in fault["msg"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'"a red cat"',
        b'{"prompt": 3}',
        b'{"prompt": "a", "guidance_scale": NaN}',
        b'{"prompt": "a", "seed": Infinity}',
        b'{"prompt": "a", "seed": -5}',
        b'{"prompt": "a", "seed": 99999999999999999999999999999999}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "\\u0000"}',
        b'{"messages": {"a": {"b": {"c": {"d": {"e": 1}}}}}}',
        b'{"prompt": "a", "negative_prompt": ["b", "c"]}',
        b'{"prompt": "a", "loras": [{"name": "../x"}]}',
        b'{"prompt": "a", "loras": [{"name": "x", "\\ud800": 1}]}',
        b'{"prompt": "a", "loras": [3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3,3]}',
    ],
)
async def test_whatever_is_no_request_gets_a_list_of_faults(
    http: httpx.AsyncClient, desk: ScriptedDesk, content: bytes
) -> None:
    headers = {"content-type": "application/json"}
    answer = await http.post("/v1/text2image", content=content, headers=headers)
    assert 1 <= len(faults(answer)) <= 20
    assert desk.submitted == []


async def test_broken_json_is_told_where_and_why(http: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    answer = await http.post("/v1/text2image", content=b'{"prompt": }', headers=headers)
    (fault,) = faults(answer)
    assert (fault["type"], fault["loc"]) == ("json_invalid", ["body", 11])
    assert fault["msg"] == "JSON decode error: Expecting value"


async def test_a_large_input_is_not_sent_back(http: httpx.AsyncClient) -> None:
    body = {"prompt": "a" * 5000, "loras": [{"name": "b" * 500_000, "scale": [1] * 100_000}]}
    answer = await post(http, body)
    assert faults(answer)
    assert len(answer.content) < 5000


@pytest.mark.parametrize(
    "content_type", [None, "application/x-www-form-urlencoded", "text/plain", "multipart/form-data"]
)
async def test_a_body_that_any_page_could_send_is_refused(
    http: httpx.AsyncClient, desk: ScriptedDesk, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    body = b'{"prompt": "a red cat"}'
    answer = await http.post("/v1/text2image", content=body, headers=headers)
    assert answer.status_code == 415
    assert answer.json()["code"] == "unsupported_content_type"
    assert "-H 'Content-Type: application/json'" in answer.json()["detail"]
    assert desk.submitted == []


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (FailureCode.MODEL_NOT_AVAILABLE, 404),
        (FailureCode.OUT_OF_MEMORY, 507),
        (FailureCode.GENERATION_FAILED, 500),
        (FailureCode.SAFETY_REFUSED, 451),
        (FailureCode.RESULT_TOO_LARGE, 413),
        (FailureCode.ATTEMPTS_EXHAUSTED, 500),
        (FailureCode.OVERLOADED, 503),
        (FailureCode.CONFLICT, 409),
        (FailureCode.INTERNAL, 500),
    ],
)
@pytest.mark.parametrize("service", ["text2image", "painter"])
async def test_a_job_that_failed_is_an_error(
    http: httpx.AsyncClient, desk: ScriptedDesk, service: str, code: FailureCode, status: int
) -> None:
    desk.end(code, "so it is")
    answer = await post(http, {"prompt": PROMPT}, service)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["status"], told["code"], told["detail"]) == (status, code, "so it is")


@pytest.mark.parametrize(
    ("ended", "code", "status"),
    [
        (Status.CANCELLED, FailureCode.CANCELLED, 409),
        (Status.EXPIRED, FailureCode.DEADLINE_EXCEEDED, 504),
    ],
)
async def test_a_job_that_was_stopped_is_an_error(
    http: httpx.AsyncClient, desk: ScriptedDesk, ended: Status, code: FailureCode, status: int
) -> None:
    desk.end(code, "so it is", ended)
    assert (await post(http, {"prompt": PROMPT})).status_code == status


async def test_a_job_that_failed_without_a_reason_is_an_error(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    desk.result_fields = {"status": "failed"}
    assert (await post(http, {"prompt": PROMPT})).status_code == 500


async def test_what_the_node_does_not_offer_is_a_fault_of_its_field(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    desk.end(FailureCode.INVALID_REQUEST, "width: 2048 is outside of 64..1024")
    assert faults(await post(http, {"prompt": PROMPT, "width": 2048})) == [
        {
            "type": "invalid_request",
            "loc": ["body", "width"],
            "msg": "2048 is outside of 64..1024",
            "input": 2048,
        }
    ]


async def test_a_refusal_that_names_no_field_is_one_of_the_body(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    desk.end(FailureCode.INVALID_REQUEST, "stage text2image: it was too much")
    (fault,) = faults(await post(http, {"prompt": PROMPT}))
    assert (fault["loc"], fault["msg"]) == (["body"], "stage text2image: it was too much")


@pytest.mark.parametrize(
    ("error", "status", "waits"),
    [
        (Overloaded("the queue is full", 7.2), 503, "8"),
        (Busy("1000 jobs are on their way", 5), 503, "5"),
        (TooManyRequests("one a minute", 60), 429, "60"),
        (BrokerUnavailable("no connection"), 503, "5"),
        (ModelNotAvailable("no node offers it"), 404, None),
        (Conflict("another body"), 409, None),
        (MessageTooLarge("over 16 MiB"), 413, None),
    ],
)
async def test_a_job_that_is_not_taken_is_an_error_and_says_when_to_come_again(
    http: httpx.AsyncClient,
    desk: ScriptedDesk,
    error: NodeError,
    status: int,
    waits: str | None,
) -> None:
    desk.refuses = error
    answer = await post(http, {"prompt": PROMPT})
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == waits
    assert answer.json()["detail"] == str(error)


async def test_pictures_that_are_gone_from_their_store_are_an_error(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    desk.store_fails = ArtifactMissing("past its retention")
    assert (await post(http, {"prompt": PROMPT})).status_code == 410


async def test_a_mega_service_answers_with_pictures_and_what_its_stages_did(
    http: httpx.AsyncClient, desk: ScriptedDesk
) -> None:
    desk.result_fields = {"images": [examples.IMAGE], "stages": STAGES, "warnings": ["slow"]}
    answer = await post(http, {"text": PROMPT, "top_k": 10}, "painter")
    assert answer.status_code == 200
    told = answer.json()
    assert list(told) == ["id", "images", "stages", "warnings"]
    assert told["images"] == [examples.IMAGE["b64_json"]]
    assert told["stages"]["text2image"]["output"] == {"seed": 1}
    assert told["warnings"] == warnings_of(answer) == ["top_k: ignored, no such field", "slow"]
    assert desk.submitted[0][:2] == ("painter", MegaServiceRequest(prompt=PROMPT))


@pytest.mark.parametrize(
    ("code", "status"), [(FailureCode.SAFETY_REFUSED, 451), (FailureCode.INVALID_REQUEST, 422)]
)
async def test_a_chain_that_failed_tells_how_far_it_came(
    http: httpx.AsyncClient, desk: ScriptedDesk, code: FailureCode, status: int
) -> None:
    desk.end(code, "the guardrail refused it")
    desk.result_fields["stages"] = STAGES
    answer = await post(http, {"prompt": PROMPT}, "painter")
    assert answer.status_code == status
    assert answer.json()["stages"]["text2image"]["status"] == "succeeded"


async def test_a_service_without_pictures_has_no_door(http: httpx.AsyncClient) -> None:
    assert (await post(http, {"text": PROMPT}, "guardrail")).status_code == 404


async def test_health_says_that_the_gateway_lives_and_what_it_is(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health")).json() == {"status": "ok"}
    assert (await http.get("/v1/health_check")).json() == {
        "Service Title": "a gateway",
        "Version": __version__,
        "Service Description": "what it is for",
    }


@pytest.mark.parametrize("path", ["/health", "/v1/health_check"])
async def test_health_may_be_asked_for_without_a_body(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.head(path)).status_code == 200


async def test_calls_and_failures_are_counted(http: httpx.AsyncClient, desk: ScriptedDesk) -> None:
    await post(http, {"prompt": PROMPT})
    await post(http, {"prompt": ""})
    desk.end(FailureCode.GENERATION_FAILED, "so it is")
    await post(http, {"prompt": PROMPT})
    desk.refuses = Busy("no more", 5)
    await post(http, {"prompt": PROMPT})
    told = (await http.get("/v1/statistics")).json()["opea_service@text2image"]
    assert (told["requests"], told["failures"], told["p50_latency"]) == (3, 2, 0.0)
    assert told["p50_latency_first_token"] is None


def test_the_openapi_document_has_what_is_sent_and_answered(app: FastAPI) -> None:
    document = app.openapi()
    for name, contract in SERVICES.items():
        if name == "guardrail":
            assert f"/v1/{name}" not in document["paths"]
            continue
        post = document["paths"][f"/v1/{name}"]["post"]
        sent = post["requestBody"]["content"]["application/json"]["schema"]
        assert sent == {"$ref": f"#/components/schemas/{contract.request.__name__}"}
        kind = "OpeaChain" if name == "painter" else "OpeaImages"
        answered = post["responses"]["200"]["content"]["application/json"]["schema"]
        assert answered == {"$ref": f"#/components/schemas/{kind}"}
        faulty = post["responses"]["422"]["content"]["application/json"]["schema"]
        assert faulty == {"$ref": "#/components/schemas/InvalidBody"}
        assert "X-Warning" in post["responses"]["200"]["headers"]
    assert "Tolerated" not in document["components"]["schemas"]
    check = document["components"]["schemas"]["HealthCheck"]
    assert list(check["properties"]) == ["Service Title", "Version", "Service Description"]
