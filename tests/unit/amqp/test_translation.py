"""What aio-pika and aiormq raise becomes ours, cancellation by a library included."""

import asyncio

import pytest

from node.amqp.translation import translated
from node.errors import BrokerUnavailable


async def call(waiting: "asyncio.Future[None]") -> None:
    with translated():
        await waiting


async def test_a_call_that_the_library_cancels_is_a_lost_connection() -> None:
    # aiormq throws CancelledError into calls in flight when heartbeats stay away.
    waiting = asyncio.get_running_loop().create_future()
    calling = asyncio.create_task(call(waiting))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(BrokerUnavailable, match="went away"):
        await calling


async def test_a_task_that_is_cancelled_ends_as_cancelled() -> None:
    calling = asyncio.create_task(call(asyncio.get_running_loop().create_future()))
    await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


async def test_a_bound_inside_a_call_is_an_unavailable_broker() -> None:
    with pytest.raises(BrokerUnavailable, match="TimeoutError"), translated():
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()


async def test_a_bound_around_a_call_stays_a_bound() -> None:
    async def bounded() -> None:
        async with asyncio.timeout(0.01):
            with translated():
                await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await bounded()
