"""A sample graph with an OPEA HTTP microservice in it, behind its bridge."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import aio_pika
import pytest

from contracts.megaservice import MegaServiceRequest, MegaServiceResult, StageStatus
from contracts.topology import service_topology
from node.amqp.broker import AmqpBroker
from node.client import Client
from node.settings import Settings
from orchestrator_example.samples import ChatPainter
from orchestrator_example.services.http_bridge import HttpBridge
from orchestrator_example.services.http_settings import BridgeSettings
from tests.fakes import ScriptedComponent
from tests.harness import PATIENCE_SECONDS, World
from tests.opea_server import OpeaServer, listening

OURS = ("opea-llm", ChatPainter.name)


class Canvas(ScriptedComponent):
    """A text2image service that knows what it was asked to paint."""

    def __init__(self) -> None:
        super().__init__(script=lambda request, _: self.prompts.append(request.prompt))
        self.prompts: list[str] = []


@pytest.fixture
async def stack(clean_amqp_url: str) -> AsyncIterator[AsyncExitStack]:
    """What a test starts; the queues of these services are taken away after it."""
    async with AsyncExitStack() as stack:
        yield stack
    connection = await aio_pika.connect(clean_amqp_url)
    async with connection, connection.channel() as channel:
        for service in OURS:
            for queue in service_topology(service).queues:
                await channel.queue_delete(queue.name)


async def ask(url: str, stack: AsyncExitStack, *components: Any) -> MegaServiceResult:
    """Serve the graph and its services, and ask it once."""
    world = World(lambda: AmqpBroker([url]), stack)
    for component in (*components, ChatPainter(Settings(), AmqpBroker([url]))):
        stack.push_async_callback(component.close)
        await world.node(component)
    client = Client(await world.broker(), ChatPainter.name, MegaServiceResult)
    await stack.enter_async_context(client.running())
    request = MegaServiceRequest(prompt="something with hooves")
    result: MegaServiceResult = await client.result(await client.submit(request), PATIENCE_SECONDS)
    return result


async def test_what_a_language_model_of_opea_writes_is_painted(
    clean_amqp_url: str, stack: AsyncExitStack
) -> None:
    opea, canvas = OpeaServer(), Canvas()
    origin = await stack.enter_async_context(listening(opea.application()))
    url = f"{origin}/v1/chat/completions"
    settings = BridgeSettings(service="opea-llm", service_type="LLM", url=url)
    result = await ask(clean_amqp_url, stack, HttpBridge(Settings(), settings), canvas)
    asked = opea.requests[0][1]
    assert asked["messages"][1] == {"role": "user", "content": "something with hooves"}
    assert canvas.prompts == ["An animal 🐴."]
    assert result.stages["llm"].status is StageStatus.SUCCEEDED


async def test_without_it_the_callers_own_words_are_painted(
    clean_amqp_url: str, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    canvas = Canvas()
    monkeypatch.setattr(ChatPainter, "graph", hurried("llm"))
    result = await ask(clean_amqp_url, stack, canvas)
    assert canvas.prompts == ["something with hooves"]
    assert result.stages["llm"].status is StageStatus.SKIPPED


def hurried(name: str) -> Any:
    """The sample's graph, where a stage has half a second instead of a minute."""
    graph = ChatPainter.graph
    stages = [
        replace(stage, policy=replace(stage.policy, timeout_seconds=0.5))
        if stage.name == name
        else stage
        for stage in graph.stages
    ]
    return replace(graph, stages=tuple(stages))
