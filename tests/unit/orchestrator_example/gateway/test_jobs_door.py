"""What the door of jobs takes, and how it says what it does not."""

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi.exceptions import RequestValidationError

from contracts.message import AnyMessage, Message
from contracts.result import AnyResult
from contracts.service import ServiceContract
from node.app import SystemClock
from orchestrator_example.gateway.app import make_app
from orchestrator_example.gateway.jobs_answer import JobSubmission
from orchestrator_example.gateway.jobs_door import read_request
from orchestrator_example.gateway.keys import KeyRing
from orchestrator_example.gateway.settings import GatewaySettings


class Undescribed(Message):
    """Has a type that JSON Schema has no word for."""

    call: Callable[[], int]


SERVICES = {
    each.name: each
    for each in (
        ServiceContract(),
        ServiceContract("own", Undescribed, AnyResult, "One's own"),
        ServiceContract("any", AnyMessage, AnyResult, "Takes anything"),
    )
}
DESK: Any = SimpleNamespace(
    services=SERVICES,
    settings=GatewaySettings(),
    all_jobs=lambda: iter(()),
    directory=SimpleNamespace(services=list),
)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(make_app(DESK, KeyRing.read(None), SystemClock()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


def test_an_id_in_the_request_is_refused_since_it_would_be_ignored() -> None:
    with pytest.raises(RequestValidationError) as caught:
        read_request(DESK, JobSubmission(request={"prompt": "a", "id": "mine"}))
    (fault,) = caught.value.errors()
    assert fault["loc"] == ("body", "request", "id")
    assert "Idempotency-Key" in fault["msg"]


def test_a_service_of_ones_own_may_have_an_id_among_its_fields() -> None:
    request = read_request(DESK, JobSubmission(service="any", request={"id": "mine"}))
    assert request.model_dump() == {"id": "mine"}


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded"])
async def test_a_body_that_does_not_say_it_is_json_is_not_read(
    http: httpx.AsyncClient, media_type: str
) -> None:
    body = b'{"request": {"prompt": "a"}}'
    answer = await http.post("/v1/jobs", content=body, headers={"Content-Type": media_type})
    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json()["detail"]


async def test_services_are_listed_though_one_cannot_be_described(http: httpx.AsyncClient) -> None:
    services = {each["name"]: each for each in (await http.get("/v1/services")).json()["services"]}
    assert services["own"]["request_schema"] == {}
    assert "prompt" in services["text2image"]["request_schema"]["properties"]


async def test_a_slash_too_many_is_answered_in_json_like_any_other_path(
    http: httpx.AsyncClient,
) -> None:
    answer = await http.get("/v1/jobs/")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
