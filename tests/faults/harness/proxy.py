"""A TCP proxy in front of a broker: the link that a fault suite makes slow, deaf, dumb or absent.

It runs on a thread and an event loop of its own, so that a test or a node that holds its own loop
does not hold the link. Its verbs may be called from any thread, and return once they are in force.
"""

import asyncio
import threading
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Literal, Self

from deploy.broker_place import free_ports
from tests.faults.harness.link import Direction, Faults, Link, Place, Role, abort

Directions = Literal["to_broker", "to_client", "both"]

VERB_SECONDS: Final = 5.0

# Class and method of a frame that a client sends, as they stand on the wire.
OPEN_CONNECTION: Final = b"\x00\x0a\x00\x28"
DECLARE: Final = b"\x00\x32\x00\x0a"
CONSUME: Final = b"\x00\x3c\x00\x14"
PUBLISH: Final = b"\x00\x3c\x00\x28"
ACK: Final = b"\x00\x3c\x00\x50"


class Proxy:
    """A link to `target_port` on loopback; clients connect to `url`.

    Each verb adds to the faults that are in force; `restore` ends them all. `role` restricts a
    verb to the consuming, publishing or control connections of nodes and clients.
    """

    def __init__(self, target_port: int, *, login: str = "guest:guest") -> None:
        self.port = free_ports(1)[0]
        self.url = f"amqp://{login}@127.0.0.1:{self.port}/"
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._faults = Faults()
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self._flapping: asyncio.Task[None] | None = None

    def latency(self, seconds: float) -> None:
        """Delay every byte, each way."""
        self._do(self._set_latency(seconds))

    def half_open(
        self, direction: Directions = "both", *, role: Role | None = None, at: bytes = b""
    ) -> None:
        """Lose every byte of a direction while sockets stay open; new connections fare the same.

        With `at` (`PUBLISH`, `ACK`, `CONSUME`, …) it begins with the first such frame of a client:
        what goes to the broker is lost from that frame on, what comes back after it.
        Connections that lost bytes are reset by `restore`.
        """
        self._do(self._add(self._faults.dropped, direction, role, at))

    def stall(
        self, direction: Directions = "both", *, role: Role | None = None, at: bytes = b""
    ) -> None:
        """Hold the bytes of a direction back; `restore` delivers them, however late."""
        self._do(self._add(self._faults.stalled, direction, role, at))

    def cut(self, *, role: Role | None = None) -> None:
        """Reset open connections; new ones are welcome."""
        self._do(self._cut(role))

    def refuse(self) -> None:
        """Reset open connections and refuse new ones."""
        self._do(self._refuse())

    def flap(self, period_seconds: float) -> None:
        """Refuse for the first half of each period and serve in the second, until restored."""
        self._do(self._start_flapping(period_seconds))

    def restore(self) -> None:
        """End every fault."""
        self._do(self._restore())

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()
        self._do(self._listen())

    def close(self) -> None:
        """End every connection, and the thread."""
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(VERB_SECONDS)
        self._loop.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _do(self, verb: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(verb, self._loop).result(VERB_SECONDS)

    async def _set_latency(self, seconds: float) -> None:
        self._faults.latency_seconds = seconds

    async def _add(
        self, places: set[Place], direction: Directions, role: Role | None, at: bytes
    ) -> None:
        both: tuple[Direction, Direction] = ("to_broker", "to_client")
        more: set[Place] = {(each, role) for each in both if direction in (each, "both")}
        if at:
            self._faults.awaited.append((at, role, places, more))
        else:
            places.update(more)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self, role: Role | None = None) -> None:
        for link in self._links:
            if role in (None, link.role):
                link.reset()

    async def _start_flapping(self, period_seconds: float) -> None:
        self._flapping = self._loop.create_task(self._flap(period_seconds / 2))

    async def _flap(self, half_seconds: float) -> None:
        while True:
            await self._refuse()
            await asyncio.sleep(half_seconds)
            await self._listen()
            await asyncio.sleep(half_seconds)

    async def _restore(self) -> None:
        await _ended(self._flapping)
        self._flapping = None
        self._faults.latency_seconds = 0.0
        self._faults.dropped.clear()
        self._faults.stalled.clear()
        self._faults.awaited.clear()
        self._faults.change()
        for link in self._links:
            if link.damaged:
                link.reset()
        await self._listen()

    async def _close(self) -> None:
        await _ended(self._flapping)
        await self._refuse()
        for task in list(self._tasks):
            await _ended(task)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            broker = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            abort(writer)
            return
        link = Link((reader, writer), broker, self._faults)
        self._links.add(link)
        with suppress(asyncio.CancelledError):  # only `close` cancels, and then it is over
            await link.run()
        self._links.discard(link)


async def _ended(task: Awaitable[Any] | None) -> None:
    if isinstance(task, asyncio.Task):
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
