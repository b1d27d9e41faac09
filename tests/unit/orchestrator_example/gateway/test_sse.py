"""Streams of events say something now and then, and clean up after callers who leave."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from orchestrator_example.gateway import sse
from orchestrator_example.gateway.sse import event_stream
from tests.unit.orchestrator_example.gateway.asgi import Exchange


class Source:
    """Gives events, then waits for more until it is let go; knows whether it was closed."""

    def __init__(self, *events: bytes, error: Exception | None = None) -> None:
        self._given = events
        self._error = error
        self.more = asyncio.Event()
        self.closed = False

    async def events(self) -> AsyncIterator[bytes]:
        try:
            for each in self._given:
                yield each
            if self._error is not None:
                raise self._error
            await self.more.wait()
        finally:
            self.closed = True


async def test_events_are_passed_on_until_there_are_no_more() -> None:
    source = Source(b"one", b"two")
    source.more.set()
    answered = await Exchange().run(event_stream(source.events()))
    assert answered.body == b"onetwo"
    assert answered.headers["content-type"].startswith("text/event-stream")
    assert answered.headers["x-accel-buffering"] == "no"
    assert source.closed


async def test_a_comment_breaks_a_long_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "KEEPALIVE_SECONDS", 0.01)
    source = Source(b"one")
    exchange = Exchange()
    running = asyncio.create_task(exchange.run(event_stream(source.events())))
    async with asyncio.timeout(10):
        while b"still there" not in exchange.body:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    source.more.set()
    await running
    assert exchange.body.startswith(b"one: still there\n\n")


async def test_what_waits_for_the_next_event_learns_that_the_caller_left() -> None:
    source = Source(b"one")
    await Exchange(hangs_up=True).run(event_stream(source.events()))
    assert source.closed


async def test_a_source_that_fails_is_no_secret() -> None:
    source = Source(b"one", error=RuntimeError("broken"))
    with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True, allow_unwrapped=True):
        await Exchange().run(event_stream(source.events()))
    assert source.closed
