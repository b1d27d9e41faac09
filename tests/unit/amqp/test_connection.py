"""Whoever uses a connection again and again lets its supervisor run in between."""

import asyncio
from contextlib import suppress
from typing import Any

from node.amqp.connection import SupervisedConnection
from node.errors import BrokerUnavailable

TRIES = 1000
"""As many as a loop that never pauses makes in no time."""


class Closed:
    """A connection that was closed, before its supervisor noticed; and its channel."""

    def channel(self, **_: Any) -> "Closed":
        return self

    async def initialize(self) -> None:
        raise RuntimeError("the connection is closed")


async def test_a_connection_that_is_closed_already_does_not_hold_the_event_loop() -> None:
    connection = SupervisedConnection("test", ["amqp://nowhere"], 5)
    connection._connection = Closed()
    connection.up.set()
    noticed = asyncio.Event()

    async def notice() -> None:
        connection.up.clear()
        noticed.set()

    async def use() -> None:
        for _ in range(TRIES):
            with suppress(BrokerUnavailable):
                async with connection.channel():
                    raise AssertionError("there is no channel on a closed connection")

    using = asyncio.create_task(use())
    noticing = asyncio.create_task(notice())
    await asyncio.wait({using, noticing}, return_when=asyncio.FIRST_COMPLETED)
    assert noticed.is_set()
    assert not using.done()
    using.cancel()
    await asyncio.gather(using, noticing, return_exceptions=True)
