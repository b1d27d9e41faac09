"""A connection whose broker is away, and who uses it again and again."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from structlog.testing import capture_logs

from node.amqp import connection as module
from node.amqp.connection import SupervisedConnection
from node.errors import BrokerUnavailable
from node.tasks import running
from tests.harness import until

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


NOBODY = "amqp://127.0.0.1:1/"


def told(logs: list[dict[str, object]], level: str) -> int:
    return sum((each["event"], each["log_level"]) == ("connection.refused", level) for each in logs)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_FIRST_SECONDS", 0.001)
    monkeypatch.setattr(module, "BACKOFF_MAX_SECONDS", 0.001)


@pytest.mark.usefixtures("no_pauses")
async def test_an_outage_is_told_once_and_not_with_every_try() -> None:
    connection = SupervisedConnection("publish", [NOBODY], 10)
    with capture_logs() as logs:
        async with running(connection=connection.run()):
            await until(lambda: told(logs, "debug") > 3, "further tries")
    assert told(logs, "warning") == 1


@pytest.mark.usefixtures("no_pauses")
async def test_an_outage_that_goes_on_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMIND_SECONDS", 0.0)
    connection = SupervisedConnection("publish", [NOBODY], 10)
    with capture_logs() as logs:
        async with running(connection=connection.run()):
            await until(lambda: told(logs, "warning") > 3, "reminders")
