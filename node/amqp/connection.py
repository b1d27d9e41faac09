"""One AMQP connection, kept up over a list of hosts.

Plain connections in a loop of our own, not `aio_pika.connect_robust`: that one knows one host,
redeclares server-named queues under a client's name, and waits without bound on publish.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from yarl import URL

from node.amqp.translation import translated
from node.errors import MessagingError

BACKOFF_FIRST_SECONDS: Final = 0.2
BACKOFF_MAX_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.5
NOTICE_SECONDS: Final = 0.05
DIAL_TIMEOUT_SECONDS: Final = 10.0
CLOSE_TIMEOUT_SECONDS: Final = 5.0
REMIND_SECONDS: Final = 60.0
"""How often the log tells of an outage that goes on."""

log = structlog.get_logger(__name__)


class SupervisedConnection:
    """An AMQP connection that is dialled again, host after host, whenever it is lost.

    State shared between tasks: `_connection`, `up` and `generation` change only in `run`.
    """

    def __init__(self, role: str, urls: Sequence[str], heartbeat_seconds: int) -> None:
        self.role = role
        self.generation = 0
        self.problem = "not connected yet"
        self._urls = [URL(url).update_query(heartbeat=heartbeat_seconds) for url in urls]
        self._connection: AbstractConnection | None = None
        self.up = asyncio.Event()

    async def run(self) -> None:
        """Keep the connection up until cancelled, then close it."""
        while True:
            connection, lost = await self._dial_until_up()
            self._connection = connection
            self.generation += 1
            self.up.set()
            try:
                up_at = time.monotonic()
                reason = await lost
            finally:
                self.up.clear()
                self._connection = None
                await _close(connection)
            self.problem = f"connection lost: {_first_line(reason)}"
            log.warning("connection.lost", role=self.role, reason=_first_line(reason))
            if time.monotonic() - up_at < BACKOFF_MAX_SECONDS:
                # Lost soon after it was opened: do not hammer a broker that has a problem with us.
                await asyncio.sleep(random.uniform(0.5, 1.0) * PAUSE_SECONDS)

    @asynccontextmanager
    async def channel(self, *, confirms: bool = True) -> AsyncIterator[AbstractChannel]:
        """Open a channel, once the connection is up, and close it at the end.

        Raises BrokerUnavailable when the connection goes away meanwhile.
        """
        await self.up.wait()
        connection = self._connection
        assert connection is not None
        with translated():
            channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
            try:
                await channel.initialize()
            except BaseException:
                # A connection that was closed a moment ago refuses at once, without giving way:
                # whoever tries again and again must let `run` notice.
                await asyncio.sleep(NOTICE_SECONDS)
                raise
            async with channel:
                yield channel

    async def _dial_until_up(
        self,
    ) -> tuple[AbstractConnection, "asyncio.Future[BaseException | None]"]:
        backoff = BACKOFF_FIRST_SECONDS
        attempt = 0
        told: dict[str, float] = {}
        while True:
            url = self._urls[attempt % len(self._urls)]
            attempt += 1
            try:
                return await self._dial(url)
            except MessagingError as error:
                self.problem = f"{_without_password(url)}: {_first_line(error)}"
                # A process has many connections, and an outage may last for hours.
                is_news = time.monotonic() > told.get(self.problem, -math.inf) + REMIND_SECONDS
                if is_news:
                    told[self.problem] = time.monotonic()
                tell = log.warning if is_news else log.debug
                tell(
                    "connection.refused",
                    role=self.role,
                    host=_without_password(url),
                    reason=_first_line(error),
                    next_try_seconds=round(backoff, 1),
                )
            if attempt % len(self._urls) == 0:
                await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
                backoff = min(backoff * 2, BACKOFF_MAX_SECONDS)

    async def _dial(
        self, url: URL
    ) -> tuple[AbstractConnection, "asyncio.Future[BaseException | None]"]:
        lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

        def on_close(_: object, reason: BaseException | None) -> None:
            if not lost.done():
                lost.set_result(reason)

        name = f"text2image-node {self.role}"
        connection = aio_pika.Connection(url, client_properties={"connection_name": name})
        try:
            with translated():
                async with asyncio.timeout(DIAL_TIMEOUT_SECONDS):
                    await connection.connect()
        except BaseException:
            # Not closed, its destructor would start a coroutine that nobody awaits.
            await connection.close()
            raise
        connection.close_callbacks.add(on_close)
        if connection.transport is None or connection.transport.connection.is_closed:
            # It went away before anybody listened for that.
            on_close(None, None)
        log.info("connection.opened", role=self.role, host=_without_password(url))
        return connection, lost


async def _close(connection: AbstractConnection) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await connection.close()
    except (OSError, TimeoutError, RuntimeError, aio_pika.exceptions.AMQPError) as error:
        # It is gone either way; the broker notices by the closed socket or missed heartbeats.
        log.debug("connection.close_failed", reason=_first_line(error))


def _without_password(url: URL) -> str:
    return str(url.with_user(None).with_query(None))


def _first_line(error: BaseException | None) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
