"""What would wait in vain is refused before anybody else hears of it."""

from dataclasses import replace

import pytest

from contracts.service import ServiceContract
from contracts.text2image import TEXT2IMAGE, Text2ImageRequest
from node.discovery.table import ServiceEntry
from node.errors import ModelNotAvailable
from orchestrator_example.gateway.admission import check_room, check_there
from orchestrator_example.gateway.errors import Busy
from orchestrator_example.gateway.memory import JobMemory
from orchestrator_example.gateway.settings import GatewaySettings
from tests.unit.orchestrator_example.gateway.test_openai_answer import entry
from tests.unit.orchestrator_example.gateway.told import job

ANY = Text2ImageRequest(prompt="a")
CHAIN = ServiceContract("chain", needs=frozenset({TEXT2IMAGE, "writer"}))


def instance(name: str) -> ServiceEntry:
    return replace(entry(), name=name)


async def test_there_is_room_for_as_many_jobs_as_the_setting_says() -> None:
    memory = JobMemory(60, 0)
    settings = GatewaySettings(max_jobs=2)
    for _ in range(2):
        check_room(job(), memory, settings)
        memory.begin(job())
    with pytest.raises(Busy, match="2 jobs are on their way"):
        check_room(job(), memory, settings)


async def test_there_is_room_for_as_many_bytes_of_requests_as_of_ended_jobs() -> None:
    memory = JobMemory(60, 0)
    settings = GatewaySettings(job_bytes=3000, max_body_bytes=1024)
    memory.begin(job(prompt="a" * 2000))
    check_room(job(), memory, settings)
    with pytest.raises(Busy, match="memory"):
        check_room(job(prompt="a" * 1000), memory, settings)


async def test_one_request_always_has_room() -> None:
    settings = GatewaySettings(job_bytes=0, max_body_bytes=4096)
    check_room(job(prompt="a" * 2000), JobMemory(60, 0), settings)


def test_with_nobody_there_a_job_is_refused_with_the_remedy() -> None:
    with pytest.raises(Busy, match=r"no instance of text2image is there; start one, or use POST"):
        check_there(ServiceContract(), ANY, [instance("captioner")])
    check_there(ServiceContract(), ANY, [instance(TEXT2IMAGE)])


def test_a_chain_needs_those_that_it_cannot_do_without() -> None:
    there = [instance("chain"), instance(TEXT2IMAGE)]
    with pytest.raises(Busy, match="no instance of writer is there"):
        check_there(CHAIN, ANY, there)
    check_there(CHAIN, ANY, [*there, instance("writer")])


def test_a_model_that_nobody_offers_is_refused_with_those_that_are() -> None:
    named = Text2ImageRequest(prompt="a", model="org/three")
    there = [entry("org/one"), entry("org/two")]
    with pytest.raises(ModelNotAvailable, match="'org/three'; offered are: org/one, org/two"):
        check_there(ServiceContract(), named, there)
    check_there(ServiceContract(), named, [*there, entry("org/three")])
    check_there(ServiceContract(), named, [entry()])
