"""OPEA's verbs and its YAML, run on this broker: what its own tests do, and what they cannot."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from contracts.megaservice import MegaServiceResult
from node.client import Client
from node.errors import GenerationFailed, JobFailed
from node.ports import Broker
from node.settings import Settings
from orchestrator_example.graph_file import read_graph
from orchestrator_example.opea import MicroService, ServiceOrchestrator
from orchestrator_example.serving import served
from tests.chains import TEXT, ChainWorld
from tests.harness import PATIENCE_SECONDS, World


@pytest.fixture
def chains(world: World, connect: Callable[[], Broker]) -> ChainWorld:
    return ChainWorld(world, connect)


async def schedule(
    world: World, connect: Callable[[], Broker], orchestrator: ServiceOrchestrator, *inputs: Any
) -> Any:
    """Serve what an orchestrator has drawn, and schedule one request."""
    await world.node(orchestrator.component()(Settings(), connect()))
    client = Client(await world.broker(), orchestrator.name, MegaServiceResult)
    async with client.running():
        return await orchestrator.schedule(*inputs, client=client, timeout_seconds=PATIENCE_SECONDS)


def failing(*_: Any) -> dict[str, Any]:
    raise GenerationFailed("it never works")


def adding(word: str, **more: Any) -> Callable[..., dict[str, Any]]:
    return lambda request, _: {"text": request["text"] + word, **more}


@pytest.mark.parametrize(
    ("black_list", "answered"),
    [([], {"s1", "s2", "s3"}), (["^s2$"], {"s1", "s3"}), ([".*"], None)],
)
async def test_a_black_list_takes_services_out_of_the_graph_that_is_run(
    world: World,
    connect: Callable[[], Broker],
    chains: ChainWorld,
    black_list: list[str],
    answered: set[str] | None,
) -> None:
    await chains.serve("s1", adding(" one", downstream_black_list=black_list))
    orchestrator = ServiceOrchestrator(chains.name)
    services = [MicroService(n, service=chains.service(n), kinds=TEXT) for n in ("s1", "s2", "s3")]
    for each in services:
        orchestrator.add(each)
    for each in services[1:]:
        await chains.serve(each.name, adding(f" {each.name}"))
        orchestrator.flow_to(services[0], each)
    if answered is None:
        with pytest.raises(JobFailed, match="safety_refused"):
            await schedule(world, connect, orchestrator, {"text": "Bye"})
        return
    result_dict, runtime_graph = await schedule(world, connect, orchestrator, {"text": "Hi"})
    assert result_dict.keys() == answered
    assert set(runtime_graph.all_leaves()) == answered - {"s1"}
    assert result_dict["s3"]["text"] == "Hi one s3"


async def test_each_orchestrator_aligns_inputs_in_its_own_way(
    world: World, connect: Callable[[], Broker], chains: ChainWorld
) -> None:
    asked = await chains.serve("llm", lambda request, _: {"text": request["messages"]})
    for words in ("one", "two"):
        llm = MicroService(
            "llm",
            service=chains.service("llm"),
            align_inputs=lambda request, _, words=words: {"messages": request["prompt"] + words},
        )
        orchestrator = ServiceOrchestrator(f"{chains.name}-{words}").add(llm)
        inputs = {"text": "say", "seed": 7}
        result_dict, _ = await schedule(world, connect, orchestrator, inputs)
        assert result_dict == {"llm": {"text": f"say{words}"}}
        assert asked.requests[-1] == {"messages": f"say{words}", "seed": 7}


async def test_a_failure_is_an_error_with_what_the_other_services_answered(
    world: World, connect: Callable[[], Broker], chains: ChainWorld
) -> None:
    await chains.serve("first", adding("!"))
    await chains.serve("second", failing)
    orchestrator = ServiceOrchestrator(chains.name)
    for name in ("first", "second"):
        orchestrator.add(MicroService(name, service=chains.service(name), kinds=TEXT))
    orchestrator.flow_to("first", "second")
    with pytest.raises(JobFailed, match="it never works") as refused:
        await schedule(world, connect, orchestrator, {"text": "Hi"})
    result: Any = refused.value.result
    assert result.stages["first"].output == {"text": "Hi!"}


@pytest.fixture
async def add_url() -> AsyncIterator[str]:
    """HTTP services as those of OPEA's tests: each adds its word to a TextDoc."""

    async def add(request: web.Request) -> web.Response:
        document = await request.json()
        text = document["text"] if isinstance(document["text"], str) else "+".join(document["text"])
        return web.json_response({"text": text + request.match_info["word"]})

    async def healthy(_: web.Request) -> web.Response:
        return web.json_response({})

    application = web.Application()
    application.add_routes([web.post("/{word}/v1/add", add), web.get("/v1/health_check", healthy)])
    async with TestServer(application) as server:
        yield str(server.make_url("/"))


async def test_a_file_of_opea_runs_with_its_http_services(
    world: World, connect: Callable[[], Broker], add_url: str, tmp_path: Path
) -> None:
    suffix = uuid4().hex[:8]
    text = f"""
    opea_micro_services:
      s1: {{endpoint: "{add_url}opea/v1/add", service: s1-{suffix}}}
      s2: {{endpoint: "{add_url}project/v1/add", service: s2-{suffix}}}
      s3: {{endpoint: "{add_url}!/v1/add", service: s3-{suffix}}}
    opea_mega_service:
      name: mega-{suffix}
      mega_flow:
        - s1 >> s2
        - (s1, s2) >> s3: {{mapping: {{"text[]": output.text}}}}
    """
    (tmp_path / "mega.yaml").write_text(text)
    file = read_graph(tmp_path / "mega.yaml")
    await world.node(served(file.graph, file.name)(Settings(), connect()))
    async with AsyncExitStack() as stack:
        for service in file.services.values():
            bridge = await world.node(service.bridge(Settings()))
            stack.push_async_callback(bridge.stop)
        client = Client(await world.broker(), file.name, MegaServiceResult)
        await stack.enter_async_context(client.running())
        orchestrator = ServiceOrchestrator(file.name)
        for service in file.services.values():
            orchestrator.add(service)
        result_dict, _ = await orchestrator.schedule(
            {"text": "Hello,"}, client=client, timeout_seconds=PATIENCE_SECONDS
        )
    assert result_dict["s2"]["output"] == {"text": "Hello,opeaproject"}
    assert result_dict["s3"]["output"] == {"text": "Hello,opea+Hello,opeaproject!"}
