"""Nodes announce themselves, answer questions, and say goodbye."""

import asyncio
import json

from contracts.discovery import InfoReply, NodeState, PingReply, StatsReply
from node.app import SystemClock
from node.discovery.directory import ServiceDirectory
from node.ports import OutgoingMessage, Subscribed
from node.tasks import running
from tests.harness import World, until


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


async def test_ping_info_and_stats_are_answered(world: World) -> None:
    await world.node(instance_id="asked")
    caller = await world.caller()
    await caller.publish({"prompt": "x"})
    await caller.next_result()
    await caller.publish(b"broken")
    await caller.next_result()
    broker = await world.broker()
    replies = broker.subscription([Subscribed("megaservice.discovery", "reply.me")])
    async with running(replies=replies.run()):
        await replies.queue_name()
        for key in ("ping", "info.text2image", "stats.text2image.asked", "ping.other"):
            body = json.dumps({"asker": "me"}).encode()
            broker.outbox.offer(OutgoingMessage("megaservice.discovery", key, body))
        iterator = aiter(replies)
        bodies = [(await asyncio.wait_for(anext(iterator), 10)).body for _ in range(3)]
    assert PingReply.model_validate_json(bodies[0]).id == "asked"
    assert InfoReply.model_validate_json(bodies[1]).endpoints[0].subject == "text2image"
    (stats,) = StatsReply.model_validate_json(bodies[2]).endpoints
    assert (stats.num_requests, stats.num_errors) == (2, 1)
    assert stats.last_error is not None
    assert "not JSON" in stats.last_error


async def test_nonsense_on_the_broadcast_exchanges_is_survived(world: World) -> None:
    await world.node()
    caller = await world.caller()
    broker = await world.broker()
    for exchange, key in (("megaservice.control", ""), ("megaservice.discovery", "ping")):
        for body in (b"", b"\xff\x00", b"[]", b'{"command": "explode"}'):
            broker.outbox.offer(OutgoingMessage(exchange, key, body))
    await caller.publish({"prompt": "x"})
    assert (await caller.next_result()).status == "succeeded"
