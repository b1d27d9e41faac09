"""A caller who gives up while its binding is made costs nobody else their answers."""

import asyncio

import pytest

from contracts.topology import EVENTS, service_topology
from node.amqp.broker import AmqpBroker
from node.ports import Subscribed
from node.tasks import running
from tests.harness import SERVICE


@pytest.mark.parametrize("verb", ["bind", "unbind"])
async def test_a_cancelled_binding_leaves_the_subscription_on_its_queue(
    clean_amqp_url: str, verb: str
) -> None:
    broker = AmqpBroker([clean_amqp_url], publish_timeout_seconds=5.0)
    key = Subscribed(EVENTS, "text2image.a.*")
    async with broker.running():
        await broker.apply(service_topology(SERVICE, []))
        subscription = broker.subscription([key])
        async with running(subscription=subscription.run()):
            name = await subscription.queue_name()
            for turns in range(1, 25):  # one of them is when the broker has not answered yet
                giving_up = asyncio.create_task(getattr(subscription, verb)(key))
                for _ in range(turns):
                    await asyncio.sleep(0)
                giving_up.cancel()
                await asyncio.gather(giving_up, return_exceptions=True)
            # An RPC on the same channel: it only works while the channel is open.
            await subscription.bind(key)
            assert await subscription.queue_name() == name
