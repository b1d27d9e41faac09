"""A TCP proxy in front of a broker: the link that a fault suite makes slow, deaf, dumb or absent.

It runs on a thread and an event loop of its own, so that a test or a node that holds its own loop
does not hold the link. Its verbs may be called from any thread, and return once they are in force.
"""

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal, Self

from deploy.broker_place import free_ports

Direction = Literal["to_broker", "to_client"]
Directions = Literal["to_broker", "to_client", "both"]
Role = Literal["consume", "publish", "control"]

CHUNK_BYTES: Final = 65536
MAX_CHUNKS: Final = 64
VERB_SECONDS: Final = 5.0
SNIFFED_BYTES: Final = 4096
# Nodes and clients name each of their connections when they log in.
CONNECTION_NAME: Final = re.compile(rb"text2image-node (consume|publish|control)")

# Class and method of a frame that a client sends, as they stand on the wire.
OPEN_CONNECTION: Final = b"\x00\x0a\x00\x28"
DECLARE: Final = b"\x00\x32\x00\x0a"
CONSUME: Final = b"\x00\x3c\x00\x14"
PUBLISH: Final = b"\x00\x3c\x00\x28"
ACK: Final = b"\x00\x3c\x00\x50"

_Place = tuple[Direction, Role | None]


@dataclass(slots=True)
class _Faults:
    """What is wrong with the link now; a role of None means every connection."""

    latency_seconds: float = 0.0
    dropped: set[_Place] = field(default_factory=set)
    stalled: set[_Place] = field(default_factory=set)
    awaited: list[tuple[bytes, Role | None, set[_Place], set[_Place]]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def drops(self, direction: Direction, role: str | None) -> bool:
        return self._holds(self.dropped, direction, role)

    def sees(self, chunk: bytes, role: str | None) -> None:
        """Put faults in force that wait for these bytes."""
        for marker, whose, places, more in list(self.awaited):
            if marker in chunk and whose in (None, role):
                places.update(more)
                self.awaited.remove((marker, whose, places, more))

    async def passable(self, link: "_Link", direction: Direction) -> None:
        """Wait while bytes of this direction are held back."""
        while self._holds(self.stalled, direction, link.role):
            await self.changed.wait()

    def change(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    @staticmethod
    def _holds(places: set[_Place], direction: Direction, role: str | None) -> bool:
        return any(where == direction and whose in (None, role) for where, whose in places)


class _Link:
    """One connection through the proxy."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        broker: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        faults: _Faults,
    ) -> None:
        self.role: str | None = None
        self.damaged = False
        self._client = client
        self._broker = broker
        self._faults = faults
        self._sniffed = b""

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump("to_broker", self._client[0], self._broker[1]))
                pumps.create_task(self._pump("to_client", self._broker[0], self._client[1]))
        finally:
            self.reset()

    async def _pump(
        self, direction: Direction, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_CHUNKS)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._take(direction, source, chunks))
            both.create_task(self._hand_over(direction, chunks, sink))

    async def _take(
        self,
        direction: Direction,
        source: asyncio.StreamReader,
        chunks: "asyncio.Queue[tuple[float, bytes]]",
    ) -> None:
        chunk = b"start"
        while chunk:
            chunk = await _read(source)
            if direction == "to_broker":
                self._sniff(chunk)
            due = asyncio.get_running_loop().time() + self._faults.latency_seconds
            await chunks.put((due, chunk))

    async def _hand_over(
        self,
        direction: Direction,
        chunks: "asyncio.Queue[tuple[float, bytes]]",
        sink: asyncio.StreamWriter,
    ) -> None:
        while True:
            due, chunk = await chunks.get()
            await asyncio.sleep(max(due - asyncio.get_running_loop().time(), 0.0))
            await self._faults.passable(self, direction)
            if self._faults.drops(direction, self.role):
                # The end of a connection is lost as well: its peer hears nothing at all.
                self.damaged = True
            elif chunk:
                await _write(sink, chunk)
            else:
                sink.close()
            if not chunk:
                return

    def _sniff(self, chunk: bytes) -> None:
        if self.role is None and len(self._sniffed) < SNIFFED_BYTES:
            self._sniffed += chunk
            found = CONNECTION_NAME.search(self._sniffed)
            self.role = found[1].decode() if found else None
        self._faults.sees(chunk, self.role)

    def reset(self) -> None:
        """End both sides at once, with RST instead of FIN."""
        for _, writer in (self._client, self._broker):
            _abort(writer)


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
        self._faults = _Faults()
        self._links: set[_Link] = set()
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
        self, places: set[_Place], direction: Directions, role: Role | None, at: bytes
    ) -> None:
        both: tuple[Direction, Direction] = ("to_broker", "to_client")
        more: set[_Place] = {(each, role) for each in both if direction in (each, "both")}
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
            _abort(writer)
            return
        link = _Link((reader, writer), broker, self._faults)
        self._links.add(link)
        with suppress(asyncio.CancelledError):  # only `close` cancels, and then it is over
            await link.run()
        self._links.discard(link)


async def _read(source: asyncio.StreamReader) -> bytes:
    with suppress(ConnectionError):
        return await source.read(CHUNK_BYTES)
    return b""


async def _write(sink: asyncio.StreamWriter, chunk: bytes) -> None:
    # A reader that went away is noticed by the pump that reads from it.
    with suppress(ConnectionError):
        sink.write(chunk)
        await sink.drain()


def _abort(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _ended(task: Awaitable[Any] | None) -> None:
    if isinstance(task, asyncio.Task):
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
