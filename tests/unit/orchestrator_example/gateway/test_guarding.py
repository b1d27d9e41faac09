"""What stands before the doors: keys before bodies, CORS before keys, a record of everything."""

import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestrator_example.gateway.guarding import add_guards
from orchestrator_example.gateway.keys import KeyRing
from orchestrator_example.gateway.keys_file import new_key
from orchestrator_example.gateway.recording import HttpMetrics
from orchestrator_example.gateway.settings import GatewaySettings
from tests.unit.orchestrator_example.gateway.asgi import Exchange, answer, chunks

ORIGIN = "https://studio.example"


async def who(request: Request) -> JSONResponse:
    caller = getattr(request.state, "caller", None)
    return JSONResponse({"caller": caller and caller.name})


@pytest.fixture
def key() -> tuple[str, str]:
    return new_key("studio")


@pytest.fixture
def keys(tmp_path: Path, key: tuple[str, str]) -> KeyRing:
    path = tmp_path / "keys.yaml"
    path.write_text("keys:\n" + key[1])
    return KeyRing.read(path)


def app(keys: KeyRing, **given) -> Starlette:
    made = Starlette(
        routes=[
            Route(path, who, methods=["GET", "POST"])
            for path in ("/v1/jobs", "/health", "/studio/{rest:path}", "/studio")
        ]
    )
    add_guards(
        made,
        GatewaySettings(max_body_bytes=1024, **given),
        keys=keys,
        metrics=HttpMetrics(CollectorRegistry()),
        answer=answer,
        open_paths=["/health", "/studio/*"],
    )
    return made


async def test_with_a_key_the_door_knows_who_calls(keys, key):
    headers = {"Authorization": f"Bearer {key[0]}"}
    exchange = await Exchange(chunks(b"{}"), headers=headers).run(app(keys))
    assert json.loads(exchange.body) == {"caller": "studio"}


async def test_without_a_key_the_answer_is_401_and_nothing_is_read_before_it(keys):
    exchange = Exchange(chunks(b"x" * 2000))
    await exchange.run(app(keys))
    assert exchange.status == 401
    assert "Authorization: Bearer KEY" in json.loads(exchange.body)["detail"]


@pytest.mark.parametrize("path", ["/health", "/studio/", "/studio/page.js"])
async def test_open_paths_need_no_key(keys, path):
    exchange = await Exchange(chunks(b""), path=path, method="GET").run(app(keys))
    assert json.loads(exchange.body) == {"caller": None}


@pytest.mark.parametrize(
    "path", ["/health/", "/healthy", "/studio", "//health", "/health/../v1/jobs"]
)
async def test_what_only_looks_like_an_open_path_needs_a_key(keys, path):
    assert (await Exchange(chunks(b""), path=path).run(app(keys))).status == 401


async def test_a_known_caller_is_known_on_open_paths_too(keys, key):
    headers = {"X-API-Key": key[0]}
    exchange = await Exchange(chunks(b""), path="/health", headers=headers).run(app(keys))
    assert json.loads(exchange.body) == {"caller": "studio"}


async def test_without_a_keys_file_everybody_may_call():
    headers = {"Authorization": "Bearer None"}
    exchange = await Exchange(chunks(b"{}"), headers=headers).run(app(KeyRing.read(None)))
    assert json.loads(exchange.body) == {"caller": "anonymous"}


def preflight() -> Exchange:
    return Exchange(
        chunks(b""),
        method="OPTIONS",
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
        },
    )


async def test_pages_of_other_origins_may_not_call_unless_told(keys):
    exchange = await preflight().run(app(keys))
    assert exchange.status == 401
    assert not [name for name in exchange.headers if name.startswith("access-control")]


async def test_pages_of_a_given_origin_may_call_and_can_read_refusals(keys):
    opened = app(keys, cors_origins=[ORIGIN])
    exchange = await preflight().run(opened)
    assert exchange.status == 200
    assert exchange.headers["access-control-allow-origin"] == ORIGIN
    refused = await Exchange(chunks(b""), headers={"Origin": ORIGIN}).run(opened)
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] == ORIGIN
    assert "Retry-After" in refused.headers["access-control-expose-headers"]


async def test_pages_of_another_origin_may_not_call(keys):
    opened = app(keys, cors_origins=["https://elsewhere.example"])
    exchange = await preflight().run(opened)
    assert exchange.status == 400
    assert "access-control-allow-origin" not in exchange.headers


async def test_every_answer_is_recorded_and_marked_whoever_gave_it(keys):
    for exchange in (Exchange(chunks(b"")), Exchange(chunks(b""), path="/health"), preflight()):
        headers = (await exchange.run(app(keys))).headers
        assert len(headers["x-request-id"]) == 32
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9379", "127.0.0.1:9379", "[::1]:9379"])
async def test_under_its_own_names_it_answers(keys, host):
    made = app(keys, hosts=["localhost", "127.0.0.1", "[::1]"])
    exchange = await Exchange(chunks(b""), path="/health", headers={"Host": host}).run(made)
    assert exchange.status == 200


@pytest.mark.parametrize("host", ["rebound.example", "localhost.rebound.example:9379", ""])
async def test_under_another_name_it_refuses_and_says_which_setting_allows_it(keys, host):
    made = app(keys, hosts=["localhost"])
    exchange = await Exchange(chunks(b""), path="/health", headers={"Host": host}).run(made)
    assert exchange.status == 400
    assert b"GATEWAY_HOSTS" in exchange.body
