"""What the gateway bears from callers: keys, limits, hostile bytes, and two hundred at once.

The real application on a real port; mostly in front of the in-memory broker.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from contracts.service import ServiceContract
from node.app import SystemClock
from node.ports import Broker
from node.tasks import running
from orchestrator_example.gateway import body_guard
from orchestrator_example.gateway.keys_file import new_key
from orchestrator_example.gateway.server import Gateway
from orchestrator_example.gateway.settings import GatewaySettings
from tests.fakes import InMemoryBroker, InMemoryServer
from tests.gateways import Painter
from tests.harness import PATIENCE_SECONDS, World, until

PROMPT = {"prompt": "An astronaut riding a green horse"}
OPEA, OPENAI, JOBS = "/v1/text2image", "/v1/images/generations", "/v1/jobs"
BODIES = {OPEA: PROMPT, OPENAI: PROMPT, JOBS: {"service": "text2image", "request": PROMPT}}
DOORS = [OPEA, OPENAI, JOBS]
ORIGIN = "https://studio.example"


class Served:
    """A gateway in front of one scripted node."""

    def __init__(self, component: Painter, gateway: Gateway, stack: AsyncExitStack) -> None:
        self.component = component
        self.gateway = gateway
        self._stack = stack

    async def client(self, key: str | None = None, **given: Any) -> httpx.AsyncClient:
        """Open a client, which sends a key."""
        client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.gateway.port}",
            timeout=PATIENCE_SECONDS,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            **given,
        )
        return await self._stack.enter_async_context(client)

    @asynccontextmanager
    async def connected(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a bare connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def said(self, sent: bytes) -> tuple[int, dict[str, Any]]:
        """Send bytes as they are; return the status, and the JSON of the answer."""
        async with self.connected() as (reader, writer):
            writer.write(sent)
            return await answer_to(reader)


async def answer_to(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """Read one answer."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    body = await asyncio.wait_for(reader.readexactly(length), PATIENCE_SECONDS)
    return int(head.split(b" ")[1]), json.loads(body)


@pytest.fixture
def memory() -> Callable[[], InMemoryBroker]:
    server = InMemoryServer()
    return lambda: InMemoryBroker(server)


@asynccontextmanager
async def gateways(connect: Callable[[], Broker]) -> AsyncIterator[Any]:
    """Start gateways with settings, each in front of a node of four slots."""
    async with AsyncExitStack() as stack:
        world = World(connect, stack)

        async def start(*, free_running: bool = True, **given: Any) -> Served:
            component = Painter(free_running=free_running)
            await world.node(component, slots=4)
            settings = GatewaySettings(port=0, grace_seconds=1, **given)
            gateway = Gateway(settings, connect(), [ServiceContract()], SystemClock())
            await stack.enter_async_context(running(gateway=gateway.run()))
            served = Served(component, gateway, stack)
            await until(lambda: gateway.port is not None, "the port")
            await until(gateway.desk.directory.services, "the node in the directory")
            client = await served.client()
            assert (await client.get("/health/ready")).status_code == 200
            return served

        yield start


@pytest.fixture
async def serve(memory: Callable[[], InMemoryBroker]) -> AsyncIterator[Any]:
    """Start gateways on the in-memory broker."""
    async with gateways(memory) as start:
        yield start


@pytest.fixture
async def serve_on_any(connect: Callable[[], Broker]) -> AsyncIterator[Any]:
    """Start gateways on the in-memory broker, and on a real one."""
    async with gateways(connect) as start:
        yield start


@pytest.fixture
def keys(tmp_path: Path) -> Callable[..., tuple[Path, list[str]]]:
    """Write a file with one key for each set of limits, and return it with the keys."""

    def write(*limits: str) -> tuple[Path, list[str]]:
        made = [new_key(f"caller-{number}") for number in range(len(limits))]
        path = tmp_path / "keys.yaml"
        entries = [entry + limit for (_, entry), limit in zip(made, limits, strict=True)]
        path.write_text("keys:\n" + "".join(entries))
        return path, [token for token, _ in made]

    return write


async def made(client: httpx.AsyncClient, door: str = JOBS) -> httpx.Response:
    return await client.post(door, json=BODIES[door])


def told(response: httpx.Response) -> str:
    """Return the sentence of a refusal, in whichever words the door has."""
    body = response.json()
    return body["error"]["message"] if "error" in body else body["detail"]


@pytest.mark.parametrize("door", DOORS)
async def test_with_keys_every_door_wants_one_and_says_how_to_send_it(serve, keys, door):
    file, (key,) = keys("")
    served = await serve(keys_file=file)
    for client in (await served.client(), await served.client("None"), await served.client("no")):
        response = await made(client, door)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert "key" in told(response)
    assert (await made(await served.client(key), door)).status_code in {200, 202}


async def test_health_needs_no_key_and_jobs_of_others_are_not_shown(serve, keys):
    file, (mine, other) = keys("", "")
    served = await serve(keys_file=file)
    stranger = await served.client()
    for path in ("/health", "/v1/health_check", "/health/live", "/health/ready", "/metrics"):
        assert (await stranger.get(path)).status_code == 200
    job = (await made(await served.client(mine))).headers["location"]
    assert (await (await served.client(mine)).get(job)).status_code == 200
    assert (await (await served.client(other)).get(job)).status_code == 404
    assert (await stranger.get(job)).status_code == 401


async def test_a_caller_beyond_its_rate_is_told_when_to_come_back(serve, keys):
    file, (hasty, other) = keys("    requests_per_minute: 2\n", "")
    served = await serve(keys_file=file)
    client = await served.client(hasty)
    jobs = [await made(client) for _ in range(2)]
    assert [each.status_code for each in jobs] == [202, 202]
    for door in DOORS:
        response = await made(client, door)
        assert response.status_code == 429
        assert 25 <= int(response.headers["retry-after"]) <= 30
        assert "2 jobs a minute" in told(response)
    # Looking is free, and others are not held up.
    assert (await client.get(jobs[0].headers["location"])).status_code == 200
    assert (await made(await served.client(other))).status_code == 202


async def test_a_caller_with_all_its_jobs_on_their_way_waits_for_one_to_end(serve, keys):
    file, (key,) = keys("    concurrent: 2\n")
    served = await serve(keys_file=file, free_running=False)
    client = await served.client(key)
    for _ in range(2):
        assert (await made(client)).status_code == 202
    response = await made(client)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    served.component.free_running = True
    await until(lambda: any(job.ended.is_set() for job in served.gateway.desk.all_jobs()))
    assert (await made(client)).status_code == 202


async def test_without_keys_the_limits_of_the_settings_hold_for_all_together(serve):
    served = await serve(requests_per_minute=1.0)
    assert (await made(await served.client("None"))).status_code == 202
    assert (await made(await served.client())).status_code == 429


@pytest.mark.parametrize("door", DOORS)
async def test_a_body_beyond_the_limit_is_refused_and_its_sender_gets_the_answer(serve, door):
    served = await serve(max_body_bytes=10_000)
    client = await served.client()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b"x" * 65_536

    for body in (b"x" * 20_000_000, endless()):
        response = await client.post(door, content=body)
        assert response.status_code == 413
        assert "10000 bytes" in told(response)
    assert (await made(client, door)).status_code in {200, 202}


async def test_a_client_that_asks_first_need_not_send_what_is_too_large(serve):
    served = await serve(max_body_bytes=10_000)
    async with served.connected() as (reader, writer):
        writer.write(
            b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Content-Length: 20000\r\n\r\n"
        )
        assert (await answer_to(reader))[0] == 413


async def test_a_body_that_trickles_is_given_up(serve, monkeypatch):
    monkeypatch.setattr(body_guard, "LINGER_SECONDS", 0.1)
    served = await serve(body_seconds=0.3)
    async with served.connected() as (reader, writer):
        writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        status, body = await answer_to(reader)
        assert status == 408
        assert body["code"] == "body_too_slow"
        assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b""


async def test_pages_of_other_origins_may_call_only_where_that_is_set(serve):
    preflight = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    served = await serve()
    closed = await (await served.client()).options(JOBS, headers=preflight)
    assert not [name for name in closed.headers if name.startswith("access-control")]
    served = await serve(cors_origins=[ORIGIN])
    client = await served.client()
    assert (await client.options(JOBS, headers=preflight)).is_success
    response = await client.post(JOBS, json=BODIES[JOBS], headers={"Origin": ORIGIN})
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "Location" in response.headers["access-control-expose-headers"]


HOSTILE = {
    "nothing": b"",
    "no_json": b"<xml/>",
    "invalid_utf8": b'{"prompt": "\xff\xfe"}',
    "nul": b'{"prompt": "a\\u0000b"}',
    "raw_nul": b'{"prompt": "a\0b"}',
    "bare_nul": b"\0",
    "half_a_pair": b'{"prompt": "\\ud800"}',
    "utf16": '{"prompt": "a"}'.encode("utf-16"),
    "deep_lists": b"[" * 50_000 + b"]" * 50_000,
    "deep_objects": b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
    "deep_field": b'{"prompt": "a", "metadata": ' + b"[" * 40_000 + b"]" * 40_000 + b"}",
    "countless_values": b"[" + b"[]," * 200_000 + b"[]]",
    "endless_number": b'{"prompt": "a", "seed": ' + b"9" * 50_000 + b"}",
    "large_number": b'{"prompt": "a", "width": 1e308, "seed": 99999999999999999999999}',
    "infinite_number": b'{"prompt": "a", "guidance_scale": 1e999}',
    "not_a_number": b'{"prompt": "a", "guidance_scale": NaN}',
    "a_list": b'[{"prompt": "a"}]',
    "a_string": b'"prompt"',
    "nothing_said": b"null",
    "other_types": b'{"prompt": {"a": [1]}, "seed": {"b": 2}, "model": [[]], "n": "x"}',
    "keys_of_python": b'{"__class__": 1, "model_config": {}, "prompt": ["a", "b"]}',
}


@pytest.mark.parametrize("door", DOORS)
async def test_hostile_bodies_are_refused_in_json_and_harm_nothing(serve, door):
    served = await serve()
    client = await served.client()
    with capture_logs() as logs:
        for name, body in HOSTILE.items():
            sent = body if door != JOBS else b'{"service": "text2image", "request": ' + body + b"}"
            for content in (body, sent):
                response = await client.post(
                    door, content=content, headers={"Content-Type": "application/json"}
                )
                assert response.status_code < 500, name
                assert isinstance(response.json(), dict), name
        assert (await client.get("/health")).status_code == 200
        assert (await made(client, door)).status_code in {200, 202}
    assert not [each for each in logs if each["log_level"] in {"error", "critical"}]


@pytest.mark.parametrize("door", DOORS)
async def test_the_last_of_two_keys_counts_as_in_any_json(serve, door):
    served = await serve()
    client = await served.client()
    twice = json.dumps(BODIES[door]).replace('"prompt"', '"prompt": 7, "prompt"')
    response = await client.post(door, content=twice, headers={"Content-Type": "application/json"})
    assert response.status_code in {200, 202}


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v1/jobs/%00%ff%2e%2e HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/jobs/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET //evil.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/jobs/x/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: -1\r\n\r\n",
        b"BREW /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        b"Idempotency-Key: " + b"k" * 60_000 + b"\r\n\r\n{}",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        b"Authorization: Bearer \xff\xfe\r\nX-Request-Id: a\xe9b\r\n\r\n{}",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"b" * 200_000 + b"\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
    ],
)
async def test_hostile_heads_are_refused_in_json_and_harm_nothing(serve, sent):
    served = await serve()
    with capture_logs() as logs:
        status, body = await served.said(sent)
        assert 400 <= status < 500
        assert isinstance(body, dict)
        assert (await (await served.client()).get("/health")).status_code == 200
    assert not [each for each in logs if each["log_level"] in {"error", "critical"}]


async def test_two_hundred_callers_at_once_are_served_or_told_when_to_come_back(serve_on_any):
    served = await serve_on_any(max_jobs=60)
    client = await served.client(limits=httpx.Limits(max_connections=None))

    async def call(number: int) -> httpx.Response:
        return await made(client, DOORS[number % 3])

    async with asyncio.timeout(PATIENCE_SECONDS):
        responses = await asyncio.gather(*(call(number) for number in range(200)))
    counted = Counter(each.status_code for each in responses)
    assert set(counted) <= {200, 202, 503}
    assert counted[200] + counted[202] >= 60
    refused = [each for each in responses if each.status_code == 503]
    assert refused
    assert all(int(each.headers["retry-after"]) >= 1 for each in refused)


async def test_two_hundred_callers_at_once_wait_their_turn_where_there_is_room(serve_on_any):
    served = await serve_on_any()
    client = await served.client(limits=httpx.Limits(max_connections=None))
    async with asyncio.timeout(PATIENCE_SECONDS):
        responses = await asyncio.gather(*(made(client, OPEA) for _ in range(200)))
    assert [each.status_code for each in responses] == [200] * 200
    assert len({each.json()["id"] for each in responses}) == 200
    assert len(served.component.finished) == 200


async def test_requests_are_counted_by_the_templates_of_their_paths(serve):
    served = await serve()
    client = await served.client()
    job = await made(client)
    await client.get(job.headers["location"])
    await client.get("/nowhere/else")
    figures = (await client.get("/metrics")).text
    for method, path, status in (
        ("POST", "/v1/jobs", 202),
        ("GET", "/v1/jobs/{job_id}", 200),
        ("GET", "unmatched", 404),
    ):
        labels = f'method="{method}",path="{path}",status="{status}"'
        assert f"text2image_gateway_http_requests_total{{{labels}}} 1.0" in figures
    assert "nowhere" not in figures
