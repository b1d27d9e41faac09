"""Raw connections to a real server: heads that are slow, broken or endless."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from orchestrator_example.gateway import connections
from orchestrator_example.gateway.connections import CallerProtocol
from tests.harness import PATIENCE_SECONDS, until

WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(_: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def endless(_: Request) -> StreamingResponse:
    async def stream():
        yield b"first"
        await asyncio.Event().wait()

    return StreamingResponse(stream())


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    app = Starlette(
        routes=[Route("/", hello, methods=["GET", "POST"]), Route("/s", endless, methods=["POST"])]
    )
    config = uvicorn.Config(
        app,
        port=0,
        http=CallerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    try:
        await until(lambda: server.started or task.done(), "the server")
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, PATIENCE_SECONDS)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving() as port:
        yield port


@pytest.fixture
def hasty(monkeypatch):
    """Heads must come at once."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)


@asynccontextmanager
async def connected(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes."""
    return await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)


async def go_on(writer: asyncio.StreamWriter) -> None:
    """Send until it is no more possible."""
    while True:
        writer.write(b"more")
        await writer.drain()
        await asyncio.sleep(0.01)


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
    assert head.startswith(b"HTTP/1.1 200")
    return await asyncio.wait_for(reader.readexactly(5), PATIENCE_SECONDS)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("sent", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: 1"])
async def test_a_head_that_does_not_end_closes_the_connection(port, sent):
    async with connected(port) as (reader, writer):
        writer.write(sent)
        assert await rest(reader) == b""


@pytest.mark.usefixtures("hasty")
async def test_a_second_head_that_does_not_end_closes_the_connection_too(port):
    async with connected(port) as (reader, writer):
        writer.write(WHOLE)
        assert await answer_of(reader) == b"hello"
        writer.write(WHOLE[:-2])
        assert await rest(reader) == b""


@pytest.mark.usefixtures("hasty")
async def test_a_connection_that_rests_between_requests_is_kept(port):
    async with connected(port) as (reader, writer):
        writer.write(WHOLE)
        assert await answer_of(reader) == b"hello"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        writer.write(WHOLE)
        assert await answer_of(reader) == b"hello"


@pytest.mark.usefixtures("hasty")
async def test_an_answer_may_take_longer_than_a_head(port):
    async with connected(port) as (reader, writer):
        writer.write(b"POST /s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"first\r\n"), PATIENCE_SECONDS)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),  # TLS to a port without
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: x\r\nX\x00: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: 1\r\n" * 20_000, 431),
        (b"GET /" + b"x" * 5_000_000, 431),
    ],
)
async def test_what_is_no_http_is_answered_with_a_problem_in_json(port, sent, status):
    async with connected(port) as (reader, writer):
        writer.write(sent)
        head, _, body = (await rest(reader)).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == status


async def test_a_caller_that_goes_on_after_such_an_answer_is_cut_off(port, monkeypatch, caplog):
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.1)
    async with connected(port) as (reader, writer):
        writer.write(b"hello\r\n\r\n")
        await rest(reader)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(go_on(writer), PATIENCE_SECONDS)
    assert len([each for each in caplog.records if "Invalid HTTP" in each.message]) == 1


async def test_a_body_that_breaks_while_it_is_answered_only_ends_the_connection(port, caplog):
    async with connected(port) as (reader, writer):
        writer.write(b"POST /s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"first\r\n"), PATIENCE_SECONDS)
        writer.write(b"no chunk\r\n")
        assert await rest(reader) == b""
    assert not [each for each in caplog.records if each.levelname == "ERROR"]
