"""The HTTP bridge against real servers: those of OPEA, and those with every fault."""

import asyncio
import base64
import contextlib
import inspect
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import client_exceptions, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from yarl import URL

from contracts.http_bridge import BridgeRequest, BridgeResult
from contracts.result import Status
from node.component import JobContext
from node.errors import (
    Disposition,
    InternalError,
    InvalidRequest,
    JobError,
    JobStopped,
    Overloaded,
    ResultTooLarge,
    SetupError,
)
from node.settings import Settings
from orchestrator_example.services.http_answer import Answer, own_words, read
from orchestrator_example.services.http_bridge import HttpBridge
from orchestrator_example.services.http_errors import ServiceFailed
from orchestrator_example.services.http_failure import failure
from orchestrator_example.services.http_settings import BridgeSettings
from orchestrator_example.services.http_stream import join
from tests.harness import until
from tests.opea_server import WAV, OpeaServer, listening

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Asking:
    """An invocation whose job a test can stop."""

    job_id = "job-1"

    def __init__(self, **headers: Any) -> None:
        self.context = JobContext(headers=headers)
        self.stop: Status | None = None
        self.asked = 0

    def stop_requested(self) -> Status | None:
        self.asked += 1
        return self.stop


@asynccontextmanager
async def raw(answer: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that reads a request and then writes what a test says."""

    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"GET"):
                await answer(writer)
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
            writer.close()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in serving:
            assert task is not None
            task.cancel()
        await asyncio.gather(*filter(None, serving), return_exceptions=True)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def opea() -> OpeaServer:
    return OpeaServer()


@pytest.fixture
async def origin(opea: OpeaServer, stack: AsyncExitStack) -> str:
    return await stack.enter_async_context(listening(opea.application()))


def settings(url: str, **given: Any) -> BridgeSettings:
    return BridgeSettings(
        **{"service": "llm", "service_type": "LLM", "url": url, "health_seconds": 0.02, **given}
    )


@pytest.fixture
def bridge(stack: AsyncExitStack) -> Callable[..., Awaitable[HttpBridge]]:
    """Bring up bridges."""

    async def come_up(url: str, **given: Any) -> HttpBridge:
        component = HttpBridge(Settings(), settings(url, **given))
        stack.push_async_callback(component.close)
        async with asyncio.timeout(20):
            await component.load(lambda _: None)
        return component

    return come_up


Bridge = Callable[..., Awaitable[HttpBridge]]


async def ask(
    component: HttpBridge, invocation: Asking | None = None, **fields: Any
) -> BridgeResult:
    request = BridgeRequest.model_validate(fields)
    component.admit(request)
    async with asyncio.timeout(30):
        result = await component.invoke(request, invocation or Asking())
    assert isinstance(result, BridgeResult)
    assert result.status is Status.SUCCEEDED
    return result


CHAT = [{"role": "user", "content": "What is a horse?"}]


async def test_a_request_is_posted_as_it_is(opea: OpeaServer, origin: str, bridge: Bridge) -> None:
    component = await bridge(origin + "/v1/chat/completions")
    fields = {"messages": CHAT, "stream": False, "stop": None, "id": "x"}
    result = await ask(component, **fields, metadata={"a": "b"})
    (headers, body), *_ = opea.requests
    assert body == fields
    assert headers["Content-Type"] == "application/json"
    assert result.output["choices"][0]["message"]["content"] == "An animal 🐴."
    assert result.warnings == []


async def test_a_stream_that_opea_sends_unasked_is_joined(origin: str, bridge: Bridge) -> None:
    result = await ask(await bridge(origin + "/v1/chat/completions"), messages=CHAT)
    assert (result.output, result.warnings) == ({"text": "An animal 🐴."}, [])


async def test_a_stream_that_was_asked_for_is_one_answer_with_a_warning(
    opea: OpeaServer, origin: str, bridge: Bridge
) -> None:
    result = await ask(await bridge(origin + "/v1/chat/completions"), messages=CHAT, stream=True)
    assert opea.requests[0][1]["stream"] is False
    assert "choices" in result.output
    assert result.warnings == ["stream: sent as false, because a result is one message"]


async def test_the_literals_of_older_services_are_joined_byte_by_byte(
    origin: str, bridge: Bridge
) -> None:
    result = await ask(await bridge(origin + "/v1/older/chat"), query="?")
    assert result.output == {"text": "a 🐴 isn't"}


async def test_audio_is_answered_in_base64(origin: str, bridge: Bridge) -> None:
    result = await ask(await bridge(origin + "/v1/audio/speech"), input="Hello")
    assert result.output["media_type"] == "audio/wav"
    assert base64.b64decode(result.output["b64_json"]) == WAV


async def test_json_of_any_shape_text_and_nothing_are_answers(origin: str, bridge: Bridge) -> None:
    outputs = [
        (await ask(await bridge(origin + path), text="Hi")).output
        for path in ("/v1/embeddings", "/v1/tts", "/plain", "/empty")
    ]
    tts = {"tts_result": base64.b64encode(WAV).decode()}
    assert outputs == [[0.25, -1.0], tts, {"text": "Grüße"}, None]


async def test_a_file_is_uploaded_where_the_service_wants_a_form(
    origin: str, bridge: Bridge
) -> None:
    component = await bridge(origin + "/v1/audio/transcriptions", file_field="file")
    encoded = "data:audio/wav;base64," + base64.b64encode(WAV).decode()
    result = await ask(component, file=encoded, language="english", temperature=0, prompt=None)
    assert result.output == {
        "text": f"{len(WAV)} bytes in english",
        "extra": ["file", "language", "temperature"],
    }


@pytest.mark.parametrize("fields", [{}, {"file": "no base64!"}, {"file": 7}, {"file": None}])
async def test_a_form_needs_its_file(origin: str, bridge: Bridge, fields: Any) -> None:
    component = await bridge(origin + "/v1/audio/transcriptions", file_field="file")
    with pytest.raises(InvalidRequest, match=r"^file: "):
        await ask(component, **fields)


async def test_a_header_of_the_operators_takes_the_place_of_ours(
    opea: OpeaServer, origin: str, bridge: Bridge
) -> None:
    content_type = {"content-type": "application/json; profile=opea"}
    await ask(await bridge(origin + "/v1/tts", headers=content_type), text="Hi")
    assert opea.requests[0][0]["Content-Type"] == "application/json; profile=opea"


async def test_trace_job_id_and_the_operators_headers_are_sent(
    opea: OpeaServer, origin: str, bridge: Bridge
) -> None:
    component = await bridge(origin + "/v1/tts", headers={"Authorization": "Bearer secret"})
    traced = Asking(traceparent=TRACE, tracestate="vendor=a", cloudEvents_type="x")
    await ask(component, traced, text="Hi")
    sent = opea.requests[0][0]
    assert sent["traceparent"] == TRACE
    assert sent["tracestate"] == "vendor=a"
    assert sent["Idempotency-Key"] == "job-1"
    assert sent["Authorization"] == "Bearer secret"
    assert not any("Authorization" in probe for probe in opea.probes)
    assert not any("cloudevents" in name.lower() for name in sent)


@pytest.mark.parametrize("hostile", ["x\r\nEvil: 1", "", 7, b"bytes", "00-zz", None])
async def test_a_trace_that_is_none_is_not_sent(
    opea: OpeaServer, origin: str, bridge: Bridge, hostile: Any
) -> None:
    invocation = Asking(traceparent=hostile, tracestate="a\nb")
    await ask(await bridge(origin + "/v1/tts"), invocation, text="Hi")
    assert not {"traceparent", "tracestate", "Evil"} & set(opea.requests[0][0])


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.EXPIRED])
async def test_a_stopped_job_drops_its_connection(
    opea: OpeaServer, origin: str, bridge: Bridge, status: Status
) -> None:
    component = await bridge(origin + "/hang")
    invocation = Asking()
    asking = asyncio.create_task(ask(component, invocation, text="Hi"))
    await asyncio.wait_for(opea.entered.wait(), 20)
    invocation.stop = status
    with pytest.raises(JobStopped) as stopped:
        await asyncio.wait_for(asking, 5)
    assert stopped.value.status is status
    await asyncio.wait_for(opea.dropped.wait(), 20)


async def test_a_job_that_waits_gives_signs_of_life(
    opea: OpeaServer, origin: str, bridge: Bridge
) -> None:
    invocation = Asking()
    asking = asyncio.create_task(ask(await bridge(origin + "/hang"), invocation, text="Hi"))
    await until(lambda: invocation.asked > 3)
    opea.release.set()
    await asking


async def test_a_service_that_hangs_is_given_up(origin: str, bridge: Bridge) -> None:
    component = await bridge(origin + "/hang", timeout_seconds=0.2)
    with pytest.raises(ServiceFailed, match=r"no complete answer within 0\.2 s"):
        await ask(component, text="Hi")


async def test_a_service_that_drips_is_given_up(stack: AsyncExitStack, bridge: Bridge) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.02)

    component = await bridge(await stack.enter_async_context(raw(drip)), timeout_seconds=0.3)
    began = time.monotonic()
    with pytest.raises(ServiceFailed, match="no complete answer"):
        await ask(component, text="Hi")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("stated", [True, False])
async def test_a_huge_answer_is_refused_before_it_is_read(
    stack: AsyncExitStack, bridge: Bridge, stated: bool
) -> None:
    written = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        length = b"Content-Length: 1000000000\r\n" if stated else b""
        writer.write(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
        while written < 1_000_000_000:
            writer.write(bytes(65_536))
            await writer.drain()
            written += 65_536

    origin = await stack.enter_async_context(raw(flood))
    with pytest.raises(ResultTooLarge, match="more than 10000 bytes"):
        await ask(await bridge(origin, max_response_bytes=10_000), text="Hi")
    assert written < 100_000_000


async def test_a_zip_bomb_is_refused(stack: AsyncExitStack, bridge: Bridge) -> None:
    async def bomb(request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.Response()
        response = web.Response(body=bytes(50_000_000))
        response.enable_compression(web.ContentCoding.gzip)
        return response

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", bomb)
    origin = await stack.enter_async_context(listening(application))

    async def compressed(writer: asyncio.StreamWriter) -> None:
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.post(origin, headers={"Accept-Encoding": "gzip"}) as answer,
        ):
            body = await answer.read()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()

    unasked = await stack.enter_async_context(raw(compressed))
    with pytest.raises(ResultTooLarge):
        await ask(await bridge(unasked, max_response_bytes=1_000_000), text="Hi")


async def _reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _cut(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
    await writer.drain()


async def _cut_chunks(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")
    await writer.drain()


async def _babble(writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await writer.drain()


async def _long_header(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000 + b"\r\n\r\n")
    await writer.drain()


async def _no_json(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n<html>")
    await writer.drain()


async def _not_a_number(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[NaN]")
    await writer.drain()


async def _broken_stream(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 'a'\n\n")
    writer.write(b'data: {"error": {"message": "out of blocks"}}\n\n')
    await writer.drain()


async def _failed_stream(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: [ERROR]\n\n")
    await writer.drain()


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        (_reset, InternalError, "connection"),
        (_hang_up, InternalError, "closed the connection without an answer"),
        (_cut, InternalError, "the answer broke off"),
        (_cut_chunks, InternalError, "the answer broke off"),
        (_babble, InternalError, "what came back is no HTTP"),
        (_long_header, InternalError, "what came back is no HTTP"),
        (_no_json, ServiceFailed, "calls its answer JSON, but"),
        (_not_a_number, ServiceFailed, "calls its answer JSON, but"),
        (_broken_stream, ServiceFailed, "out of blocks"),
        (_failed_stream, ServiceFailed, "broke off its stream"),
    ],
)
async def test_a_broken_answer_is_retried(
    stack: AsyncExitStack, bridge: Bridge, fault: Any, error: type[JobError], reason: str
) -> None:
    component = await bridge(await stack.enter_async_context(raw(fault)))
    with pytest.raises(error, match=reason) as raised:
        await ask(component, text="Hi")
    assert raised.value.disposition is Disposition.RETRY


async def test_a_stream_without_its_end_mark_is_told_as_such(
    stack: AsyncExitStack, bridge: Bridge
) -> None:
    async def stream(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: half\n\n")
        await writer.drain()

    result = await ask(await bridge(await stack.enter_async_context(raw(stream))), text="Hi")
    assert result.output == {"text": "half"}
    assert "may be incomplete" in result.warnings[0]


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (400, InvalidRequest, "answered 400 Bad Request: so it is"),
        (404, InvalidRequest, "404 Not Found"),
        (422, InvalidRequest, "422"),
        (401, ServiceFailed, "BRIDGE_HEADERS"),
        (403, ServiceFailed, "BRIDGE_HEADERS"),
        (408, Overloaded, "408"),
        (429, Overloaded, "429 Too Many Requests"),
        (503, Overloaded, "503"),
        (307, ServiceFailed, r"redirects \(307\) to http://elsewhere\.example/x, which is not"),
        (304, ServiceFailed, "304"),
        (301, ServiceFailed, "to an address that is none, which"),
        (302, ServiceFailed, r"to http://127\.0\.0\.1:[0-9]+/there, which"),
        (500, ServiceFailed, "so it is"),
        (599, ServiceFailed, "answered 599: so it is"),
    ],
)
async def test_what_a_status_means(
    origin: str, bridge: Bridge, status: int, error: type[JobError], words: str
) -> None:
    with pytest.raises(error, match=words):
        await ask(await bridge(f"{origin}/status/{status}"), text="Hi")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"detail": "no such voice"}', "no such voice"),
        (
            b'{"detail": [{"loc": ["body", "text"], "msg": "Field required", "input": "secret"}]}',
            "body.text: Field required",
        ),
        (b'{"error": {"message": "context too long", "code": 400}}', "context too long"),
        (b'{"object": "error"}', '{"object":"error"}'),
        (b"Internal Server Error", "Internal Server Error"),
        (b"line\n  two", "line two"),
        (b"", "(no text)"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b'{"detail": [1, {"loc": 7, "msg": 8}]}', "1"),
    ],
)
def test_the_services_own_words_are_found(body: bytes, words: str) -> None:
    assert own_words(Answer(422, "application/json", None, body)).startswith(words)


def test_the_services_own_words_are_bounded() -> None:
    assert len(own_words(Answer(500, "text/html", "no-such-charset", b"x" * 10_000))) == 300


@hypothesis_settings(deadline=None)
@given(
    st.integers(200, 599),
    st.sampled_from(["application/json", "text/event-stream", "a/b"]),
    st.sampled_from([None, "utf-8", "utf-16", "latin-1", "rot13", "base64", "\x00"]),
    st.binary(max_size=80),
)
def test_no_answer_makes_the_bridge_crash(
    status: int, kind: str, charset: str | None, body: bytes
) -> None:
    with contextlib.suppress(JobError):
        read(Answer(status, kind, charset, body))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "text", "content", "index", "error"]), inner
        )
    ),
    max_leaves=12,
)


@hypothesis_settings(deadline=None)
@given(st.lists(JSON, max_size=4))
def test_no_stream_makes_the_bridge_crash(events: list[Any]) -> None:
    stream = "".join(f"data: {json.dumps(each)}\n\n" for each in events)
    with contextlib.suppress(ServiceFailed):
        BridgeResult(job_id="a", status=Status.SUCCEEDED, output=join(stream).output)


@pytest.mark.parametrize(
    ("stream", "output"),
    [
        ("data: 'it''s'\n\ndata: \" a\"\n\n", {"text": "its a"}),
        ('data: "one"\r\rdata: " two"\r\r', {"text": "one two"}),
        ("data: a\ndata: b\n\n: comment\nevent: x\ndata:c\n\n", {"text": "a\nbc"}),
        ("data: last", {"text": "last"}),
        ("data: 5\n\n", {"text": "5"}),
        ("", {"text": ""}),
        ("data: [DONE]\n\ndata: 'late'\n\n", {"text": ""}),
        ('data: {"choices": [{"text": "old"}]}\n\n', {"text": "old"}),
        (
            'data: {"choices": [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}]}\n\n',
            {"text": "a", "choices": ["a", "b"]},
        ),
        ("data: {\"ops\": [1]}\n\ndata: b'x'\n\n", {"events": [{"ops": [1]}, "x"]}),
    ],
)
def test_streams_are_joined(stream: str, output: Any) -> None:
    assert join(stream).output == output


async def test_every_failure_of_the_client_library_is_translated() -> None:
    key = aiohttp.client_reqrep.ConnectionKey("h", 443, True, True, None, None, None)
    info = aiohttp.RequestInfo(URL("http://h/"), "POST", {}, URL("http://h/"))  # type: ignore[arg-type]
    os_error = OSError(111, "Connection refused")
    made: dict[type[Exception], tuple[Any, ...]] = {
        client_exceptions.ClientConnectorCertificateError: (key, ValueError("expired")),
        client_exceptions.ServerFingerprintMismatch: (b"a", b"b", "h", 443),
        client_exceptions.UnixClientConnectorError: ("/tmp/s", key, os_error),
    }
    sentences = set()
    for kind in vars(client_exceptions).values():
        if not (inspect.isclass(kind) and issubclass(kind, aiohttp.ClientError)):
            continue
        if issubclass(kind, client_exceptions.ClientResponseError):
            arguments: tuple[Any, ...] = (info, ())
        elif issubclass(kind, client_exceptions.InvalidURL):
            arguments = ("http://",)
        elif kind in made:
            arguments = made[kind]
        elif issubclass(kind, client_exceptions.ClientConnectorError):
            arguments = (key, os_error)
        else:
            arguments = ()
        text = failure(kind(*arguments), settings("http://user:pw@h/x?key=secret")).detail
        assert text.startswith("http://h/x: "), kind
        assert "\n" not in text
        sentences.add(text)
    assert len(sentences) >= 9


def self_signed(folder: Path) -> Path:
    """Make a certificate that nobody vouches for, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(
        key.private_bytes(pem, pkcs8, serialization.NoEncryption()) + certificate.public_bytes(pem)
    )
    return path


async def test_an_address_that_speaks_no_tls_is_told_clearly(origin: str, bridge: Bridge) -> None:
    component = await bridge(origin.replace("http:", "https:"), health_url=origin)
    with pytest.raises(InternalError, match="TLS failed"):
        await ask(component, text="Hi")


async def test_a_certificate_that_nobody_trusts_is_told_clearly(
    stack: AsyncExitStack, bridge: Bridge, origin: str, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    runner = web.AppRunner(web.Application())
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    component = await bridge(f"https://127.0.0.1:{runner.addresses[0][1]}/", health_url=origin)
    with pytest.raises(InternalError, match=r"not trusted.*SSL_CERT_FILE"):
        await ask(component, text="Hi")


async def test_a_host_that_is_not_there_is_told_clearly(origin: str, bridge: Bridge) -> None:
    component = await bridge("http://no-such-host.invalid/", health_url=origin)
    with pytest.raises(InternalError, match=r"http://no-such-host\.invalid/: no connection: "):
        await ask(component, text="Hi")


async def test_load_waits_for_the_service_and_health_says_for_what(
    opea: OpeaServer, stack: AsyncExitStack
) -> None:
    async with listening(web.Application()) as origin:
        free = origin
    component = HttpBridge(Settings(), settings(free + "/v1/tts"))
    stack.push_async_callback(component.close)
    loading = asyncio.create_task(component.load(lambda _: None))
    await until(lambda: "Connection refused" in component.health().detail)
    assert not component.health().healthy
    assert not loading.done()
    runner = web.AppRunner(opea.application())
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", int(URL(free).port or 0)).start()
    await asyncio.wait_for(loading, 20)
    assert component.health().healthy


async def test_a_service_that_goes_away_makes_the_bridge_unhealthy_until_it_is_back(
    opea: OpeaServer, origin: str, bridge: Bridge
) -> None:
    component = await bridge(origin + "/v1/tts")
    opea.healthy = False
    await until(lambda: not component.health().healthy)
    assert "/v1/health_check answers 503" in component.health().detail
    opea.healthy = True
    await until(lambda: component.health().healthy)


async def test_a_call_that_is_answered_is_a_sign_of_health(
    opea: OpeaServer, origin: str, bridge: Bridge
) -> None:
    component = await bridge(origin + "/v1/tts")
    opea.healthy = False
    await until(lambda: not component.health().healthy)
    await ask(component, text="Hi")
    assert component.health().healthy


async def test_a_service_that_computes_is_not_asked_how_it_is(
    opea: OpeaServer, origin: str, bridge: Bridge
) -> None:
    component = await bridge(origin + "/hang")
    invocation = Asking()
    asking = asyncio.create_task(ask(component, invocation, text="Hi"))
    await asyncio.wait_for(opea.entered.wait(), 20)
    opea.healthy = False
    await until(lambda: invocation.asked > 5)
    assert component.health().healthy
    opea.release.set()
    await asking


async def test_a_service_without_a_page_for_its_health_is_there(
    origin: str, bridge: Bridge
) -> None:
    component = await bridge(origin + "/v1/tts", health_url=origin + "/nothing-here")
    assert component.health().healthy


async def test_a_bridge_can_be_closed_before_it_was_loaded() -> None:
    await HttpBridge(Settings(), settings("http://h/")).close()


def test_a_bridge_is_called_as_its_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "BRIDGE_SERVICE": "tts",
        "BRIDGE_SERVICE_TYPE": "TTS",
        "BRIDGE_URL": "http://tts:9088/v1/audio/speech",
        "BRIDGE_CONCURRENCY": "7",
        "BRIDGE_HEADERS": '{"Authorization": "Bearer secret"}',
    }.items():
        monkeypatch.setenv(name, value)
    component = HttpBridge(Settings())
    assert (component.name, component.service_type, component.slots) == ("tts", "TTS", 7)
    assert HttpBridge.name == "http-bridge"
    read_settings = BridgeSettings.read()
    assert read_settings.health_address == "http://tts:9088/v1/health_check"
    assert "secret" not in repr(read_settings) + str(read_settings.model_dump())


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("SERVICE", "", "BRIDGE_SERVICE: it must be set"),
        ("SERVICE", "Text.to", "BRIDGE_SERVICE: String should match"),
        ("URL", "ftp://h/", "BRIDGE_URL: it must begin with http:// or https://"),
        ("URL", "h:9000/v1", "BRIDGE_URL: it must begin"),
        ("URL", "http://:pw@[::1", "BRIDGE_URL: it is no address"),
        ("HEADERS", "Bearer hunter2", "headers.*it must be JSON"),
        ("HEADERS", '{"A": "hunter2\\n"}', "BRIDGE_HEADERS: the header 'A' cannot be sent"),
        ("HEADERS", '{"A B": "hunter2"}', "BRIDGE_HEADERS: the header 'A B' cannot be sent"),
        ("HEADERS", '["hunter2"]', "BRIDGE_HEADERS: Input should be"),
        ("URL", "http://me@h/", "settings: the user in BRIDGE_URL and Authorization"),
        ("METHOD", "GET", "BRIDGE_METHOD: Input should be 'POST' or 'PUT'"),
    ],
)
def test_wrong_settings_are_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv("BRIDGE_SERVICE", "tts")
    monkeypatch.setenv("BRIDGE_SERVICE_TYPE", "TTS")
    monkeypatch.setenv("BRIDGE_URL", "http://tts/")
    monkeypatch.setenv("BRIDGE_HEADERS", '{"authorization": "hunter2"}')
    monkeypatch.setenv(f"BRIDGE_{name}", value)
    with pytest.raises(SetupError, match=reason) as raised:
        HttpBridge(Settings())
    assert "hunter2" not in str(raised.value)
    assert "pw" not in str(raised.value)
