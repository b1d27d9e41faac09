"""What aio-pika and aiormq raise becomes ours, cancellation by a library included."""

import asyncio

import pytest
from yarl import URL

from node.amqp.translation import to_aio_pika, translated, user_of
from node.errors import BrokerUnavailable
from node.ports import OutgoingMessage


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


@pytest.mark.parametrize(
    ("url", "user"),
    [
        ("amqp://captioner:secret@host/", "captioner"),
        ("amqp://host/", "guest"),
        ("amqp://caf%C3%A9%40home%2F1:p@host/", "café@home/1"),
        ("amqp://a%252Fb:p@host/", "a%2Fb"),
        ("amqps://host/?auth=EXTERNAL", None),
        ("amqps://captioner@host/?auth=external", "captioner"),
    ],
)
def test_the_user_is_the_one_that_the_address_names(url: str, user: str | None) -> None:
    assert user_of(URL(url)) == user


def test_only_a_signed_message_carries_a_user() -> None:
    message = OutgoingMessage("", "queue", b"body")
    assert to_aio_pika(message).user_id is None
    assert to_aio_pika(message, "captioner").user_id == "captioner"
