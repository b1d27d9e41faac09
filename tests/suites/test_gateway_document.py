"""The OpenAPI document against what is answered in truth: statuses, media types, every field."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from contracts.service import ServiceContract
from node.ports import Broker
from tests.gateways import PROMPT, GatewayWorld, HttpCaller, Painter
from tests.harness import World


class Document:
    """An OpenAPI document that answers are held against."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def hold(self, answer: httpx.Response) -> httpx.Response:
        """Return an answer that is as the document says."""
        operation = self._operation(answer.request.method.lower(), answer.request.url.path)
        status = str(answer.status_code)
        responses = operation["responses"]
        described = responses.get(status) or responses[f"{status[0]}XX"]
        media_type = answer.headers.get("content-type", "").partition(";")[0]
        if answer.content:
            schema = described["content"][media_type]["schema"]
            if media_type.endswith("json"):
                self._check(schema, answer.json())
        return answer

    def _operation(self, method: str, path: str) -> dict[str, Any]:
        for template, operations in self._document["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
                operation: dict[str, Any] = operations[method]
                return operation
        raise AssertionError(f"{method} {path} is not in the document")

    def _check(self, schema: dict[str, Any], body: Any) -> None:
        components = self._document["components"]
        Draft202012Validator({**schema, "components": components}).validate(body)


@pytest.fixture
async def caller(world: World, connect: Callable[[], Broker]) -> AsyncIterator[HttpCaller]:
    await world.node(Painter())
    async with AsyncExitStack() as stack:
        _, caller = await GatewayWorld(connect, stack).gateway(ServiceContract(), instances=1)
        yield caller


@pytest.fixture
async def document(caller: HttpCaller) -> Document:
    return Document((await caller.http.get("/openapi.json")).json())


async def test_a_job_is_shown_as_documented_from_its_beginning_to_its_end(
    caller: HttpCaller, document: Document
) -> None:
    address = document.hold(await caller.submit()).headers["location"]
    document.hold(await caller.http.get(address))
    view = await caller.ended(address)
    document.hold(await caller.http.get(address))
    document.hold(await caller.http.get("/v1/jobs"))
    document.hold(await caller.http.get(f"{address}/events"))
    assert document.hold(await caller.http.get(view["image_urls"][0])).content
    document.hold(await caller.http.delete(address))


@pytest.mark.parametrize("door", ["/v1/text2image", "/v1/images/generations"])
async def test_pictures_are_answered_as_documented(
    caller: HttpCaller, document: Document, door: str
) -> None:
    answer = document.hold(await caller.http.post(door, json=PROMPT))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/v1/health_check",
        "/v1/models",
        "/v1/services",
        "/v1/statistics",
    ],
)
async def test_what_can_be_looked_at_is_as_documented(
    caller: HttpCaller, document: Document, path: str
) -> None:
    assert document.hold(await caller.http.get(path)).status_code == 200


@pytest.mark.parametrize("door", ["/v1/jobs", "/v1/text2image", "/v1/images/generations"])
@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"\xff", "application/json"),
        (b'{"prompt": 3, "request": {"prompt": 3}}', "application/json"),
        (b'{"prompt": "a", "request": {"prompt": "a"}}', "text/plain"),
    ],
)
async def test_what_cannot_be_done_is_refused_as_documented(
    caller: HttpCaller, document: Document, door: str, content: bytes, media_type: str
) -> None:
    answer = await caller.http.post(door, content=content, headers={"Content-Type": media_type})
    assert 400 <= document.hold(answer).status_code < 500


async def test_what_is_not_there_is_told_as_documented(
    caller: HttpCaller, document: Document
) -> None:
    for path in ("/v1/jobs/none", "/v1/jobs/none/events", "/v1/models/none"):
        assert document.hold(await caller.http.get(path)).status_code == 404
    assert document.hold(await caller.submit(service="none")).status_code == 404
