"""What a stage's attempt leaves behind, and how it ends when its request cannot be sent."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from contracts.failure import FailureCode
from contracts.megaservice import MegaServiceRequest, MegaServiceResult
from contracts.topology import EVENTS, job_routing_key, service_topology
from node import client as client_module
from node.errors import JobFailed, MessageTooLarge
from orchestrator_example import calls as calls_module
from orchestrator_example.graph import ServiceGraph
from orchestrator_example.policy import Policy
from tests.chains import ChainWorld
from tests.fakes import InMemoryBroker, InMemoryServer
from tests.harness import PATIENCE_SECONDS, World, until


class Connections:
    """Opens connections to one broker, and knows which one was the last."""

    def __init__(self) -> None:
        self.server = InMemoryServer()
        self.opened: list[InMemoryBroker] = []

    def __call__(self) -> InMemoryBroker:
        self.opened.append(InMemoryBroker(self.server))
        return self.opened[-1]


@pytest.fixture
def connections() -> Connections:
    return Connections()


@pytest.fixture
async def chains(connections: Connections) -> AsyncIterator[ChainWorld]:
    async with AsyncExitStack() as stack:
        # The node's own connection is another one than that to the services.
        yield ChainWorld(World(lambda: InMemoryBroker(connections.server), stack), connections)


async def failure_of(chains: ChainWorld, prompt: str) -> MegaServiceResult:
    async with chains.client() as client:
        with pytest.raises(JobFailed) as failed:
            await client.result(
                await client.submit(MegaServiceRequest(prompt=prompt)), PATIENCE_SECONDS
            )
    assert isinstance(failed.value.result, MegaServiceResult)
    return failed.value.result


async def test_a_stage_that_timed_out_is_waited_for_no_more(
    chains: ChainWorld, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_module, "LATE_SECONDS", 0.0)
    monkeypatch.setattr(client_module, "RESUBMIT_SECONDS", 0.0)
    connections.server.declare(service_topology(chains.service("nobody")))
    stage = chains.stage("nobody", policy=Policy(timeout_seconds=0.1, retries=1))
    await chains.orchestrate(ServiceGraph().add(stage))
    await failure_of(chains, "x")

    def asked() -> list[str | None]:
        queue = connections.server.queues[chains.service("nobody")]
        return [item.message.properties.message_id for item in queue.items]

    given_up = asked()
    assert len(given_up) == 2
    for job_id in given_up:
        key = job_routing_key(chains.service("nobody"), str(job_id), "started")
        await until(lambda key=key: not connections.server.route(EVENTS, key), "no binding")
    connections.opened[-1].interrupt(0.0)
    # Meanwhile, what is still waited for would be published again.
    await failure_of(chains, "y")
    assert [each for each in asked() if each in given_up] == given_up


async def test_a_request_larger_than_the_broker_takes_fails_at_once(
    chains: ChainWorld, connections: Connections
) -> None:
    first = await chains.serve("first")
    await chains.orchestrate(ServiceGraph().add(chains.stage("first")))
    too_large = MessageTooLarge("message size 9 is larger than max size 8")
    connections.opened[-1].outbox.faults.append(too_large)
    error = (await failure_of(chains, "x")).stages["first"].error
    assert error is not None
    assert error.code is FailureCode.INVALID_REQUEST
    assert error.detail == f"its request is too large for a message: {too_large}"
    assert not first.begun
