"""A service as OPEA describes one, and the stage that it is."""

from typing import Any

import pytest

from node.settings import Settings
from orchestrator_example.graph import GraphError
from orchestrator_example.kinds import KINDS, Kinds
from orchestrator_example.microservice import MicroService, ServiceType


def test_the_callers_parameters_are_not_those_of_the_graph() -> None:
    parameters = {"seed": 1}
    stage = MicroService("a", parameters=parameters).stage()
    parameters["seed"] = 2
    assert stage.parameters == {"seed": 1}


def test_inputs_are_aligned_by_a_call_of_each_service() -> None:
    def ask(request: Any, answers: Any) -> dict[str, Any]:
        return {"messages": request["prompt"]}

    asked = MicroService("llm", align_inputs=ask)
    plain = MicroService("llm")
    assert (asked.stage().build, plain.stage().build) == (ask, None)


@pytest.mark.parametrize(
    ("service", "kinds"),
    [
        (MicroService("text2image"), KINDS["text2image"]),
        (MicroService("mine", service="captioner"), KINDS["captioner"]),
        (MicroService("mine", service_type=ServiceType.TEXT2IMAGE), KINDS["text2image"]),
        (MicroService("mine", service_type=ServiceType.GUARDRAIL), KINDS["guardrail"]),
        (MicroService("mine"), Kinds()),
        (MicroService("mine", service_type=ServiceType.TTS), Kinds()),
        (MicroService("mine", port=9), Kinds({"text": "text"}, {"text": "output.text"})),
        (MicroService("mine", port=9, kinds=Kinds({"text": "q"})), Kinds({"text": "q"})),
    ],
)
def test_what_a_service_takes_and_gives_is_known_by_its_name_or_type(
    service: MicroService, kinds: Kinds
) -> None:
    assert service.stage().kinds == kinds


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, None),
        ({"endpoint": "http://tts:7055/v1/tts"}, "http://tts:7055/v1/tts"),
        ({"host": "tts", "port": 7055, "endpoint": "/v1/tts"}, "http://tts:7055/v1/tts"),
        ({"port": 7055, "endpoint": "v1/tts"}, "http://localhost:7055/v1/tts"),
        ({"host": "tts"}, "http://tts:8080/"),
        ({"host": "tts", "port": 443, "protocol": "https"}, "https://tts:443/"),
    ],
)
def test_an_address_is_read_as_opea_reads_it(given: dict[str, Any], url: str | None) -> None:
    assert MicroService("tts", use_remote_service=True, **given).url == url


def test_a_service_behind_http_is_served_by_its_bridge() -> None:
    service = MicroService("mine", service="tts", service_type=ServiceType.TTS, host="h", port=1)
    bridge = service.bridge(Settings())
    assert (bridge.name, bridge.service_type) == ("tts", "TTS")


@pytest.mark.parametrize(
    ("service", "why"),
    [
        (MicroService("painter"), "'painter' has no endpoint: no bridge serves it"),
        (MicroService("Mine", port=1), "no bridge can serve 'Mine': service: "),
        (MicroService("a", endpoint="ftp://h/x"), "must begin with http"),
    ],
)
def test_a_bridge_that_could_not_serve_is_refused(service: MicroService, why: str) -> None:
    with pytest.raises(GraphError, match=why):
        service.bridge(Settings())


def test_no_service_is_served_inside_the_orchestrator() -> None:
    with pytest.raises(GraphError, match="text2image-node serve --component"):
        MicroService("a", use_remote_service=False)
