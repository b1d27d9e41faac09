"""An HTTP service behind a bridge, a node and a real RabbitMQ."""

import asyncio
import base64
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
import pytest

from contracts.http_bridge import BridgeResult
from contracts.message import HEADER_ATTEMPT
from contracts.result import Status
from contracts.topology import RETRY_DELAYS_SECONDS, retry_queue, service_topology
from node.amqp.broker import AmqpBroker
from node.settings import Settings
from node.tasks import running
from orchestrator_example.services.http_bridge import HttpBridge
from orchestrator_example.services.http_settings import BridgeSettings
from tests.harness import PATIENCE_SECONDS, Caller, NodeHandle, World, until
from tests.opea_server import WAV, OpeaServer, listening

SERVICE = "opea-test"
CHAT = {"messages": [{"role": "user", "content": "What is a horse?"}]}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def url(clean_amqp_url: str) -> AsyncIterator[str]:
    """A real RabbitMQ that keeps nothing of the bridge's queues."""
    yield clean_amqp_url
    connection = await aio_pika.connect(clean_amqp_url)
    async with connection, connection.channel() as channel:
        for queue in service_topology(SERVICE).queues:
            await channel.queue_delete(queue.name)


@pytest.fixture
async def stack(url: str) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def opea() -> OpeaServer:
    return OpeaServer()


@pytest.fixture
async def origin(opea: OpeaServer, stack: AsyncExitStack) -> str:
    return await stack.enter_async_context(listening(opea.application()))


Serve = Callable[..., Awaitable[tuple[NodeHandle, Caller]]]


@pytest.fixture
def serve(url: str, origin: str, stack: AsyncExitStack) -> Serve:
    """Put a path of the HTTP service behind a node, and open a caller."""

    async def serve_path(path: str, **given: Any) -> tuple[NodeHandle, Caller]:
        world = World(lambda: AmqpBroker([url], publish_timeout_seconds=5.0), stack)
        settings = BridgeSettings(
            service=SERVICE, service_type="LLM", url=origin + path, health_seconds=0.05
        )
        component = HttpBridge(Settings(), settings)
        # A node that is killed closes nothing.
        stack.push_async_callback(component.close)
        node = await world.node(component, **given)
        return node, await world.caller()

    return serve_path


async def answer(caller: Caller) -> BridgeResult:
    return BridgeResult.model_validate_json((await caller.next_message()).body)


async def ask(caller: Caller, body: Any, **properties: Any) -> str:
    return await caller.publish(body, routing_key=SERVICE, **properties)


async def test_a_chat_completion_goes_from_queue_to_http_and_back(
    serve: Serve, opea: OpeaServer
) -> None:
    _, caller = await serve("/v1/chat/completions")
    metadata = {"album": "space"}
    job_id = await ask(caller, {**CHAT, "metadata": metadata}, headers={"traceparent": TRACE})
    result = await answer(caller)
    assert (result.job_id, result.status) == (job_id, Status.SUCCEEDED)
    assert result.output == {"text": "An animal 🐴."}
    assert result.metadata == metadata
    headers, body = opea.requests[0]
    assert body == CHAT
    assert (headers["Idempotency-Key"], headers["traceparent"]) == (job_id, TRACE)


async def test_the_same_job_asked_twice_is_sent_once(serve: Serve, opea: OpeaServer) -> None:
    _, caller = await serve("/v1/tts")
    for _ in range(2):
        await ask(caller, {"text": "Hello"}, message_id="twice")
    results = [await answer(caller), await answer(caller)]
    assert results[0] == results[1]
    assert len(opea.requests) == 1


async def test_requests_are_sent_at_the_same_time(serve: Serve, opea: OpeaServer) -> None:
    node, caller = await serve("/hang")
    for _ in range(4):
        await ask(caller, CHAT)
    await until(lambda: node.node.worker.busy() == 4, "four running jobs")
    opea.release.set()
    assert {(await answer(caller)).status for _ in range(4)} == {Status.SUCCEEDED}


async def test_a_cancel_drops_the_call_and_is_answered(
    serve: Serve, opea: OpeaServer, url: str, stack: AsyncExitStack
) -> None:
    _, caller = await serve("/hang")
    client = await World(lambda: AmqpBroker([url]), stack).client()
    job_id = await ask(caller, CHAT)
    await asyncio.wait_for(opea.entered.wait(), PATIENCE_SECONDS)
    await client.cancel(job_id)
    assert (await answer(caller)).status is Status.CANCELLED
    await asyncio.wait_for(opea.dropped.wait(), PATIENCE_SECONDS)


async def test_a_deadline_drops_the_call_and_is_answered(serve: Serve, opea: OpeaServer) -> None:
    _, caller = await serve("/hang")
    deadline = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    await ask(caller, CHAT, headers={"cloudEvents_expirytime": deadline})
    assert (await answer(caller)).status is Status.EXPIRED
    await asyncio.wait_for(opea.dropped.wait(), PATIENCE_SECONDS)


async def test_what_the_service_refuses_fails_with_its_words(serve: Serve) -> None:
    _, caller = await serve("/status/422")
    await ask(caller, CHAT)
    error = (await answer(caller)).error
    assert error is not None
    assert (error.code, error.retryable) == ("invalid_request", False)
    assert "so it is" in error.detail


async def test_what_may_pass_waits_for_another_attempt(
    serve: Serve, url: str, stack: AsyncExitStack
) -> None:
    _, caller = await serve("/status/503")
    job_id = await ask(caller, CHAT)
    broker = await World(lambda: AmqpBroker([url]), stack).broker()
    # In this queue until its time to live has passed: whoever reads it here is its next attempt.
    inbox = broker.inbox([retry_queue(SERVICE, RETRY_DELAYS_SECONDS[0])], prefetch_count=1)
    async with running(inbox=inbox.run()), asyncio.timeout(PATIENCE_SECONDS):
        delivery = await anext(aiter(inbox))
        await inbox.ack(delivery)
    assert delivery.message.properties.message_id == job_id
    assert delivery.message.properties.headers[HEADER_ATTEMPT] == 2


async def test_failures_of_the_service_leave_the_node_fit(serve: Serve, opea: OpeaServer) -> None:
    node, caller = await serve("/fails", max_failed_jobs=1)
    await ask(caller, {"fail": True})
    await until(lambda: opea.failed, "a failure of the service")
    await ask(caller, {"fail": False})
    assert (await answer(caller)).status is Status.SUCCEEDED
    assert not node.task.done()


async def test_a_job_that_is_handed_back_is_sent_again_elsewhere(
    serve: Serve, opea: OpeaServer
) -> None:
    first, caller = await serve("/hang", grace_seconds=0.0)
    job_id = await ask(caller, CHAT)
    await asyncio.wait_for(opea.entered.wait(), PATIENCE_SECONDS)
    opea.entered.clear()
    await first.stop()
    await asyncio.wait_for(opea.dropped.wait(), PATIENCE_SECONDS)
    _, other = await serve("/hang")
    await asyncio.wait_for(opea.entered.wait(), PATIENCE_SECONDS)
    opea.release.set()
    result = await answer(caller)
    assert (result.job_id, result.status) == (job_id, Status.SUCCEEDED)
    assert await other.silent_for(0.1)


async def test_a_process_serves_the_bridge_once_its_service_is_there(
    url: str, opea: OpeaServer, tmp_path: Path, stack: AsyncExitStack
) -> None:
    async with listening(OpeaServer().application()) as origin:
        pass
    log = tmp_path / "node.log"
    process = await _bridge_process(url, origin, log)
    stack.push_async_callback(_end, process)
    await until(lambda: "service.awaited" in log.read_text(), "the wait for the service")
    ready = _lines(log, "health.opened")[0]["url"]
    assert "waiting for the HTTP service" in str(await _get(ready))

    await stack.enter_async_context(listening(opea.application(), int(origin.rpartition(":")[2])))
    await until(lambda: _lines(log, "node.ready"), "readiness")
    assert await _get(ready) == {"status": "ready"}
    world = World(lambda: AmqpBroker([url]), stack)
    caller = await world.caller()
    await ask(caller, {"input": "Hello"})
    output = (await answer(caller)).output
    assert isinstance(output, dict)
    assert output["media_type"] == "audio/wav"
    assert base64.b64decode(str(output["b64_json"])) == WAV
    assert "hunter2" not in log.read_text()

    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), PATIENCE_SECONDS) == 0


async def _bridge_process(url: str, origin: str, log: Path) -> asyncio.subprocess.Process:
    environment = {
        **os.environ,
        "NODE_AMQP_URL": url,
        "NODE_LOG_FORMAT": "json",
        "NODE_HTTP_PORT": "0",
        "BRIDGE_SERVICE": SERVICE,
        "BRIDGE_SERVICE_TYPE": "TTS",
        "BRIDGE_URL": origin + "/v1/audio/speech",
        "BRIDGE_HEADERS": '{"Authorization": "Bearer hunter2"}',
        "BRIDGE_HEALTH_SECONDS": "0.1",
    }
    component = "orchestrator_example.services.http_bridge:HttpBridge"
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "node", "serve", "--component", component),
            env=environment,
            stdout=output,
            stderr=output,
        )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


def _lines(log: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


async def _get(address: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(address) as response:
        return await response.json()
