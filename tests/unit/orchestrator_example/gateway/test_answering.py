"""Each door refuses in its own words, and always in JSON."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from contracts.text2image import Text2ImageRequest
from node.errors import BrokerUnavailable
from orchestrator_example.gateway.answering import add_refusals
from orchestrator_example.gateway.errors import Busy

JOBS, OPENAI = "/v1/jobs", "/v1/images/generations"
INVALID = {"prompt": "", "width": 13}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    add_refusals(app)
    for path in (JOBS, OPENAI):

        @app.post(path)
        async def read(request: Text2ImageRequest) -> None:
            raise Busy("full", 7.0)

        @app.get(path)
        async def ask() -> None:
            raise BrokerUnavailable("amqp://10.0.0.7 is away")

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


def told(response: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    return body


async def test_errors_are_problem_details(client: httpx.AsyncClient) -> None:
    refused = await client.post(JOBS, json={"prompt": "a"})
    assert refused.headers["content-type"] == "application/problem+json"
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "7")
    assert (told(refused)["code"], told(refused)["detail"]) == ("busy", "full")
    assert told(await client.get(JOBS))["code"] == "broker_unavailable"


async def test_why_it_cannot_be_done_now_is_for_the_log(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        refused = await client.get(JOBS)
    (line,) = [each for each in logs if each["event"] == "request.refused"]
    assert (line["kind"], line["reason"]) == ("BrokerUnavailable", "amqp://10.0.0.7 is away")
    assert "10.0.0.7" not in refused.text


async def test_openai_is_answered_in_its_own_words(client: httpx.AsyncClient) -> None:
    refused = await client.post(OPENAI, json={"prompt": "a"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "7")
    assert told(refused)["error"]["message"] == "full"


async def test_faults_of_a_request_are_named_one_by_one(client: httpx.AsyncClient) -> None:
    refused = await client.post(JOBS, json=INVALID)
    body = told(refused)
    assert (refused.status_code, body["code"]) == (422, "invalid_request")
    assert [each["loc"] for each in body["errors"]] == [["body", "prompt"], ["body", "width"]]
    assert body["detail"].startswith("prompt: ")
    assert told(await client.post(OPENAI, json=INVALID))["error"]["message"].startswith("prompt: ")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"prompt": NaN}'])
async def test_what_is_no_request_at_all_is_refused(
    client: httpx.AsyncClient, content: bytes
) -> None:
    for door in (JOBS, OPENAI):
        response = await client.post(
            door, content=content, headers={"Content-Type": "application/json"}
        )
        assert response.status_code in {400, 422}
        assert told(response)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "must be an object of JSON"),
        (b"[]", "must be an object of JSON"),
        (b"{", "no JSON, at character 1"),
        (b"\xff", "UTF-8"),
        (b"[" * 100_000, "less deep"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "shorter numbers"),
        (b'{"n": 1, "num_images_per_prompt": 2}', "say the same thing"),
    ],
)
async def test_people_are_told_what_is_wrong_with_a_body(
    client: httpx.AsyncClient, content: bytes, says: str
) -> None:
    json = {"Content-Type": "application/json"}
    refused = await client.post(JOBS, content=content, headers=json)
    assert says in told(refused)["detail"]
    refused = await client.post(OPENAI, content=content, headers=json)
    assert says in told(refused)["error"]["message"]


async def test_a_path_or_method_that_is_not_there_is_told_so(client: httpx.AsyncClient) -> None:
    nowhere = await client.get("/nowhere")
    assert (nowhere.status_code, told(nowhere)["code"]) == (404, "not_found")
    wrong = await client.delete(JOBS)
    assert (wrong.status_code, told(wrong)["code"]) == (405, "method_not_allowed")
    assert "POST" in wrong.headers["allow"] or "GET" in wrong.headers["allow"]
    assert told(await client.delete(OPENAI))["error"]["code"] == "method_not_allowed"
