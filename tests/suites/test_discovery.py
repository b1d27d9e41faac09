"""Nodes announce themselves, answer questions, and say goodbye."""

import asyncio
import json
from typing import Any

import pytest

from contracts.discovery import InfoReply, NodeState, PingReply, StatsReply, Verb
from contracts.text2image import Text2ImageRequest
from contracts.topology import DISCOVERY
from node.amqp.broker import AmqpBroker
from node.app import SystemClock
from node.discovery import directory as directory_module
from node.discovery.directory import ServiceDirectory
from node.ports import Broker, OutgoingMessage, Properties, Subscribed
from node.tasks import running
from tests.fakes import InMemoryBroker
from tests.harness import PATIENCE_SECONDS, World, until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "ECHO_SECONDS", 0.2)


async def cut_off(broker: Broker, directory: ServiceDirectory) -> None:
    """Take every connection of a listener away; it gets others."""
    if isinstance(broker, InMemoryBroker):
        directory._subscription.interrupt(0.05)
        return
    assert isinstance(broker, AmqpBroker)
    await asyncio.wait_for(broker.wait_until_connected(), PATIENCE_SECONDS)
    for each in broker._connections():
        await each._connection.close()


async def test_a_late_listener_sees_everybody_at_once(world: World) -> None:
    await world.node(instance_id="one")
    await world.node(instance_id="two")
    directory = ServiceDirectory(await world.broker(), SystemClock())
    async with running(directory=directory.run()):
        await until(lambda: len(directory.services()) == 2, "both nodes")
        entry = directory.services()[0]
        assert (entry.instance_id, entry.metadata.service_type) == ("one", "TEXT2IMAGE")
        assert entry.metadata.state is NodeState.READY
        assert entry.metadata.models[0].id == "scripted"


async def test_goodbye_removes_a_node(world: World) -> None:
    handle = await world.node(instance_id="leaving")
    directory = ServiceDirectory(await world.broker(), SystemClock())
    async with running(directory=directory.run()):
        await until(directory.services, "the node")
        await handle.stop()
        await until(lambda: not directory.services(), "its goodbye")


async def test_a_listener_that_was_cut_off_hears_again_and_asks_once_more(world: World) -> None:
    await world.node(instance_id="there")
    broker = await world.broker()
    asked: list[str] = []
    pings = (await world.broker()).subscription([Subscribed(DISCOVERY, "ping")])

    async def count() -> None:
        async for question in pings:
            asked.append(question.routing_key)  # noqa: PERF401 - as they come

    async with running(pings=pings.run(), count=count()):
        await pings.queue_name()
        directory = ServiceDirectory(broker, SystemClock())
        async with running(directory=directory.run()):
            await until(directory.services, "the node")
            for times in (2, 3):
                await cut_off(broker, directory)
                await until(lambda n=times: len(asked) == n, "the next ping")
                assert [each.instance_id for each in directory.services()] == ["there"]
            await until(lambda: not directory.cut_off(), "an echo")


async def test_a_listener_knows_whether_a_request_could_be_done(world: World) -> None:
    directory = ServiceDirectory(await world.broker(), SystemClock())
    async with running(directory=directory.run()):
        fits = Text2ImageRequest(prompt="x", width=512, model="scripted")
        assert not directory.can_serve("text2image", fits).possible
        handle = await world.node()
        await until(directory.services, "the node")
        await until(lambda: directory.can_serve("text2image", fits).possible, "its announcement")
        too_wide = directory.can_serve("text2image", Text2ImageRequest(prompt="x", width=2048))
        assert too_wide.reasons == ("width: 2048 is outside of 64..1024",)
        await handle.stop()
        await until(lambda: not directory.can_serve("text2image", fits).possible, "its goodbye")


ADDRESSES = ["", ".text2image", ".text2image.asked"]
REPLIES = {Verb.PING: PingReply, Verb.INFO: InfoReply, Verb.STATS: StatsReply}


async def test_every_question_is_answered_on_every_address(world: World) -> None:
    await world.node(instance_id="asked")
    answers = await ask(world, [f"{verb}{address}" for verb in REPLIES for address in ADDRESSES])
    replies = [
        REPLIES[verb].model_validate_json(answers[f"{verb}{a}"])
        for verb in REPLIES
        for a in ADDRESSES
    ]
    assert [reply.id for reply in replies] == ["asked"] * 9


async def test_stats_tell_what_was_done(world: World) -> None:
    await world.node(instance_id="asked")
    caller = await world.caller()
    for body in ({"prompt": "x"}, b"broken"):
        await caller.publish(body)
        await caller.next_result()
    directory = ServiceDirectory(await world.broker(), SystemClock())
    async with running(directory=directory.run()):
        await until(directory.services, "the node")
        directory.ask(Verb.STATS)
        await until(directory.stats, "its answer")
    (stats,) = directory.stats()["text2image", "asked"].endpoints
    assert (stats.num_requests, stats.num_errors) == (2, 1)
    assert stats.last_error is not None
    assert "not JSON" in stats.last_error


async def ask(world: World, questions: list[str]) -> dict[str, Any]:
    """Ask, each question with a correlation id of its own, and collect the answers."""
    broker = await world.broker()
    replies = broker.subscription([Subscribed(DISCOVERY, "reply.me")])
    answers: dict[str, Any] = {}
    async with running(replies=replies.run()), asyncio.timeout(PATIENCE_SECONDS):
        await replies.queue_name()
        for key in [*questions, "ping.other"]:
            body = json.dumps({"asker": "me"}).encode()
            properties = Properties(correlation_id=key)
            broker.outbox.offer(OutgoingMessage(DISCOVERY, key, body, properties))
        async for message in replies:
            answers[str(message.properties.correlation_id)] = message.body
            if len(answers) == len(questions):
                return answers
    raise AssertionError("the subscription ended")


async def test_nonsense_on_the_broadcast_exchanges_is_survived(world: World) -> None:
    await world.node()
    caller = await world.caller()
    broker = await world.broker()
    for exchange, key in (("megaservice.control", ""), ("megaservice.discovery", "ping")):
        for body in (b"", b"\xff\x00", b"[]", b'{"command": "explode"}'):
            broker.outbox.offer(OutgoingMessage(exchange, key, body))
    await caller.publish({"prompt": "x"})
    assert (await caller.next_result()).status == "succeeded"
