"""The OpenAPI document says what is answered, by whom, and who needs a key."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI

from contracts import examples
from contracts.megaservice import MegaServiceRequest, MegaServiceResult
from contracts.message import Message
from contracts.result import JobResult
from contracts.service import ServiceContract
from node.app import SystemClock
from orchestrator_example.gateway.app import make_app
from orchestrator_example.gateway.keys import KeyRing
from orchestrator_example.gateway.keys_file import new_key
from orchestrator_example.gateway.settings import GatewaySettings

PICTURES = ServiceContract()
CHAIN = ServiceContract("painter", MegaServiceRequest, MegaServiceResult, "A chain")


class UndescribedResult(JobResult):
    """Has a type that JSON Schema has no word for."""

    found: Callable[[], int]


class UndescribedRequest(Message):
    """Likewise."""

    call: Callable[[], int]


def app_of(
    *services: ServiceContract, keys: KeyRing | None = None, public_url: str | None = None
) -> FastAPI:
    desk: Any = SimpleNamespace(
        services={each.name: each for each in services},
        settings=GatewaySettings(public_url=public_url),
        all_jobs=lambda: iter(()),
    )
    return make_app(desk, keys or KeyRing.read(None), SystemClock())


@pytest.fixture
def keys(tmp_path: Any) -> KeyRing:
    _, entry = new_key("studio")
    file = tmp_path / "keys.yaml"
    file.write_text(f"keys:\n{entry}")
    return KeyRing.read(file)


def refs(document: dict[str, Any]) -> set[str]:
    """List the schemas that are referred to."""
    found = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(ref := value.get("$ref"), str):
                found.add(ref.rpartition("/")[2])
            value = list(value.values())
        for each in value if isinstance(value, list) else []:
            look(each)

    look(document)
    return found


def test_the_result_of_a_job_is_that_of_one_of_the_services() -> None:
    schemas = app_of(PICTURES, CHAIN).openapi()["components"]["schemas"]
    choices = schemas["JobView"]["properties"]["result"]["anyOf"]
    assert choices == [
        {"$ref": "#/components/schemas/Text2ImageResult"},
        {"$ref": "#/components/schemas/MegaServiceResult"},
        {"type": "null"},
    ]
    assert "images" in schemas["Text2ImageResult"]["properties"]
    assert "stages" in schemas["MegaServiceResult"]["properties"]


def test_every_schema_is_there_that_is_referred_to_and_no_other() -> None:
    document = app_of(PICTURES, CHAIN).openapi()
    assert refs(document) == set(document["components"]["schemas"])


def test_refusals_are_problem_details_and_say_when_to_come_again() -> None:
    document = app_of(PICTURES).openapi()
    for path in ("/v1/jobs", "/v1/text2image"):
        refused = document["paths"][path]["post"]["responses"]["5XX"]
        problem = refused["content"]["application/problem+json"]["schema"]
        assert problem == {"$ref": "#/components/schemas/HttpProblem"}
        assert "Retry-After" in refused["headers"]
    assert "Location" in document["paths"]["/v1/jobs"]["post"]["responses"]["202"]["headers"]
    assert "503" in document["paths"]["/health/ready"]["get"]["responses"]


def test_without_keys_nothing_asks_for_one() -> None:
    document = app_of(PICTURES).openapi()
    assert "securitySchemes" not in document["components"]
    assert "security" not in document


def test_with_keys_every_door_asks_for_one_but_health_and_signed_links(keys: KeyRing) -> None:
    document = app_of(PICTURES, keys=keys).openapi()
    schemes = document["components"]["securitySchemes"]
    assert (schemes["bearer"]["scheme"], schemes["apiKey"]["name"]) == ("bearer", "X-API-Key")
    assert document["security"] == [{"bearer": []}, {"apiKey": []}]
    free = {
        path
        for path, operations in document["paths"].items()
        if all(each.get("security") == [] for each in operations.values())
    }
    assert free == {
        "/health",
        "/health/live",
        "/health/ready",
        "/v1/health_check",
        "/metrics",
        "/v1/files/{job_id}/{index}",
    }


def test_a_service_whose_types_cannot_be_described_takes_and_gives_any_object() -> None:
    own = ServiceContract("own", UndescribedRequest, UndescribedResult, "One's own")
    document = app_of(PICTURES, own).openapi()
    choices = document["components"]["schemas"]["JobView"]["properties"]["result"]["anyOf"]
    assert {"type": "object"} in choices
    assert json.dumps(document)


def test_a_mega_service_whose_request_cannot_be_described_has_a_door() -> None:
    class OwnChainResult(MegaServiceResult):
        """A chain of one's own."""

    own = ServiceContract("own", UndescribedRequest, OwnChainResult, "One's own")
    post = app_of(own).openapi()["paths"]["/v1/own"]["post"]
    sent = post["requestBody"]["content"]["application/json"]["schema"]
    assert sent["type"] == "object"


def test_a_gateway_that_has_an_address_tells_it() -> None:
    address = "https://pictures.example/api"
    assert app_of(PICTURES, public_url=address).openapi()["servers"] == [{"url": address}]
    assert "servers" not in app_of(PICTURES).openapi()


def test_the_document_is_written_once() -> None:
    app = app_of(PICTURES)
    assert app.openapi() is app.openapi()
    assert examples.PROMPT in json.dumps(app.openapi())
