"""One process, one component or several: what it builds, how it ends."""

import asyncio
import os
import signal
from typing import Any, ClassVar

import pytest

from node.commands import serve
from node.commands.serve import make_nodes, run_nodes
from node.component import Component, ComponentLoader, ComponentRegistry
from node.errors import NodeUnfit, SetupError
from node.ports import QueueDepth
from node.settings import Settings
from tests.fakes import InMemoryBroker, InMemoryServer, ScriptedComponent
from tests.harness import Caller, until

PATIENCE_SECONDS = 20.0
PROMPT = {"prompt": "An astronaut riding a green horse"}


class Other(ScriptedComponent):
    """A second service."""

    name = "other"


class Frugal(ScriptedComponent):
    """A service that uses what others have."""

    name = "frugal"

    def __init__(self) -> None:
        super().__init__()
        self.siblings: list[Component] = []

    def share(self, sibling: Component) -> None:
        self.siblings.append(sibling)


class Broken(Other):
    """Cannot be loaded."""

    async def load(self, report: Any) -> None:
        raise SetupError("other has no model")


class Hanging(Other):
    """Gives no sign of life, as a thread that hangs in a driver."""

    async def invoke(self, request: Any, invocation: Any) -> Any:
        self.invocations.append(invocation.job_id)
        await asyncio.Event().wait()


class Fleet:
    """The nodes of one process around a broker in memory."""

    classes: ClassVar[dict[str, Any]] = {
        "scripted": ScriptedComponent,
        "other": Other,
        "frugal": Frugal,
        "broken": Broken,
        "hanging": Hanging,
    }

    def __init__(self, names: str, **given: Any) -> None:
        self.settings = Settings(**{"http_port": 0, "component": names} | given)
        registry = ComponentRegistry()
        for name, factory in self.classes.items():
            registry.register(name, lambda _, factory=factory: factory())
        self.loader = ComponentLoader(registry, self.settings)
        self.nodes = make_nodes(self.settings, self.loader, 0.0)

    @property
    def components(self) -> list[Any]:
        return [node._component for node in self.nodes]

    async def ready(self) -> None:
        await until(lambda: not any(n.reasons_not_ready() for n in self.nodes), "readiness")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> InMemoryServer:
    server = InMemoryServer()
    monkeypatch.setattr(serve, "make_broker", lambda _: InMemoryBroker(server))
    return server


async def published(server: InMemoryServer, service: str) -> str:
    broker = InMemoryBroker(server)
    async with broker.running():
        return await Caller(broker).publish(PROMPT, routing_key=service, answered=False)


async def depth(server: InMemoryServer, queue: str) -> QueueDepth:
    broker = InMemoryBroker(server)
    async with broker.running():
        return await broker.depth(queue)


async def test_every_component_that_is_named_gets_a_node(server: InMemoryServer) -> None:
    assert [each.name for each in Fleet("scripted").components] == ["text2image"]
    assert [each.name for each in Fleet(" scripted, other ,").components] == ["text2image", "other"]


@pytest.mark.parametrize(
    ("names", "words"),
    [("scripted,scripted", "two components serve text2image"), (" , ", "no component to serve")],
)
async def test_what_cannot_be_served_is_one_clear_line(
    server: InMemoryServer, names: str, words: str
) -> None:
    with pytest.raises(SetupError, match=words):
        Fleet(names)


async def test_a_component_hears_of_those_that_were_built_before_it(server: InMemoryServer) -> None:
    scripted, other, frugal = Fleet("scripted,other,frugal").components
    assert frugal.siblings == [scripted, other]
    assert Fleet("frugal,scripted").components[0].siblings == []


@pytest.mark.parametrize(
    ("port", "ports"), [(0, [0, 0, 0]), (8081, [8081, 8082, 8083]), (65534, [65534, 65535, 0])]
)
async def test_each_node_has_a_port_of_its_own(
    server: InMemoryServer, port: int, ports: list[int]
) -> None:
    fleet = Fleet("scripted,other,frugal", http_port=port)
    assert [node._settings.http_port for node in fleet.nodes] == ports


async def test_a_signal_lets_every_node_finish_what_it_runs(server: InMemoryServer) -> None:
    fleet = Fleet("scripted,other")
    for each in fleet.components:
        each.free_running = False
    running = asyncio.create_task(run_nodes(fleet.nodes, fleet.loader))
    await fleet.ready()
    jobs = [await published(server, service) for service in ("text2image", "other")]
    await until(lambda: all(each.invocations for each in fleet.components), "both jobs")
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: all(node._stop_requests for node in fleet.nodes), "both to hear of it")
    assert not running.done()
    for each in fleet.components:
        each.free_running = True
        each.step(4)
    await asyncio.wait_for(running, PATIENCE_SECONDS)
    assert [each.finished for each in fleet.components] == [[job] for job in jobs]


async def test_one_that_cannot_be_loaded_ends_the_process(server: InMemoryServer) -> None:
    fleet = Fleet("scripted,broken")
    with pytest.raises(SetupError, match="other has no model"):
        await asyncio.wait_for(run_nodes(fleet.nodes, fleet.loader), PATIENCE_SECONDS)


async def test_one_that_became_unfit_takes_the_others_with_it_and_their_jobs_go_back(
    server: InMemoryServer,
) -> None:
    fleet = Fleet("scripted,hanging", stall_seconds=0.3)
    scripted, _ = fleet.components
    running = asyncio.create_task(run_nodes(fleet.nodes, fleet.loader))
    await fleet.ready()
    scripted.free_running = False
    await published(server, "text2image")
    await until(lambda: scripted.invocations, "the job of the other node")
    await published(server, "other")
    with pytest.raises(NodeUnfit, match="no sign of life"):
        await asyncio.wait_for(running, PATIENCE_SECONDS)
    assert scripted.finished == []
    assert (await depth(server, "text2image")).messages == 1


async def test_an_end_from_outside_ends_every_node(server: InMemoryServer) -> None:
    fleet = Fleet("scripted,other")
    running = asyncio.create_task(run_nodes(fleet.nodes, fleet.loader))
    await fleet.ready()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, PATIENCE_SECONDS)
    for service in ("text2image", "other"):
        assert (await depth(server, service)).consumers == 0
