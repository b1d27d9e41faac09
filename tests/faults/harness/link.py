"""One connection through the proxy, and what is wrong with it."""

import asyncio
import re
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

Direction = Literal["to_broker", "to_client"]
Role = Literal["consume", "publish", "control"]

CHUNK_BYTES: Final = 65536
MAX_CHUNKS: Final = 64
SNIFFED_BYTES: Final = 4096
# Nodes and clients name each of their connections when they log in.
CONNECTION_NAME: Final = re.compile(rb"text2image-node (consume|publish|control)")

Place = tuple[Direction, Role | None]


@dataclass(slots=True)
class Faults:
    """What is wrong with the link now; a role of None means every connection."""

    latency_seconds: float = 0.0
    dropped: set[Place] = field(default_factory=set)
    stalled: set[Place] = field(default_factory=set)
    awaited: list[tuple[bytes, Role | None, set[Place], set[Place]]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def drops(self, direction: Direction, role: str | None) -> bool:
        return self._holds(self.dropped, direction, role)

    def sees(self, chunk: bytes, role: str | None) -> None:
        """Put faults in force that wait for these bytes."""
        for marker, whose, places, more in list(self.awaited):
            if marker in chunk and whose in (None, role):
                places.update(more)
                self.awaited.remove((marker, whose, places, more))

    async def passable(self, link: "Link", direction: Direction) -> None:
        """Wait while bytes of this direction are held back."""
        while self._holds(self.stalled, direction, link.role):
            await self.changed.wait()

    def change(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    @staticmethod
    def _holds(places: set[Place], direction: Direction, role: str | None) -> bool:
        return any(where == direction and whose in (None, role) for where, whose in places)


class Link:
    """One connection through the proxy."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        broker: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        faults: Faults,
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
            abort(writer)


async def _read(source: asyncio.StreamReader) -> bytes:
    with suppress(ConnectionError):
        return await source.read(CHUNK_BYTES)
    return b""


async def _write(sink: asyncio.StreamWriter, chunk: bytes) -> None:
    # A reader that went away is noticed by the pump that reads from it.
    with suppress(ConnectionError):
        sink.write(chunk)
        await sink.drain()


def abort(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
