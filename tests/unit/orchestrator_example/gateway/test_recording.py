"""Every request leaves one line and its figures; crashes are told to the log, not to callers."""

import asyncio
import json
import string
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from orchestrator_example.gateway.recording import HttpMetrics, Recorder
from tests.unit.orchestrator_example.gateway.asgi import Exchange, answer, chunks

SECRET = "the prompt of somebody"


async def made(request: Request) -> Response:
    request.state.caller = SimpleNamespace(name="studio")
    request.state.job_id = "job-1"
    return JSONResponse({"made": True}, 202)


async def crash(_: Request) -> Response:
    raise RuntimeError(SECRET)


async def crash_in_the_stream(_: Request) -> Response:
    async def stream():
        yield b"first"
        raise RuntimeError(SECRET)

    return StreamingResponse(stream())


async def cached(_: Request) -> Response:
    return Response(b"page", headers={"Cache-Control": "max-age=60"})


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def app(registry: CollectorRegistry) -> Starlette:
    routes = [
        Route("/v1/jobs/{job_id}", made, methods=["GET", "POST"]),
        Route("/crash", crash, methods=["POST"]),
        Route("/stream", crash_in_the_stream, methods=["POST"]),
        Route("/cached", cached),
        Route("/health", cached),
    ]
    app = Starlette(routes=routes)
    clock = iter(range(0, 10_000, 2))
    metrics = HttpMetrics(registry)
    app.add_middleware(Recorder, metrics=metrics, answer=answer, clock=lambda: float(next(clock)))
    return app


def exposed(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"text2image_gateway_{name}", labels)


def line(logs: list) -> dict:
    (told,) = [each for each in logs if each["event"] == "http.answered"]
    return told


async def test_a_request_is_told_in_one_line_with_the_template_of_its_path(app):
    with capture_logs() as logs:
        await Exchange(path="/v1/jobs/7").run(app)
    assert line(logs) == {
        "event": "http.answered",
        "log_level": "info",
        "method": "POST",
        "path": "/v1/jobs/{job_id}",
        "status": 202,
        "seconds": 2.0,
        "bytes": len('{"made":true}'),
        "caller": "studio",
        "job_id": "job-1",
    }


async def test_health_is_told_for_debugging_only_unless_it_fails(app):
    with capture_logs() as logs:
        await Exchange(path="/health", method="GET").run(app)
        assert line(logs)["log_level"] == "debug"
    with capture_logs() as logs:
        await Exchange(path="/health", method="DELETE").run(app)
        assert line(logs)["log_level"] == "info"


async def test_figures_count_requests_by_method_template_and_status(app, registry):
    for job in range(3):
        await Exchange(path=f"/v1/jobs/{job}").run(app)
    labels = {"method": "POST", "path": "/v1/jobs/{job_id}"}
    assert exposed(registry, "http_requests_total", status="202", **labels) == 3.0
    assert exposed(registry, "http_request_seconds_sum", **labels) == 6.0
    assert exposed(registry, "http_requests_open") == 0.0


async def test_whatever_is_asked_for_the_figures_do_not_grow(app, registry):
    for number in range(50):
        await Exchange(path=f"/{number}", method=f"VERB{number}").run(app)
    await Exchange(path="/cached", method="PUT").run(app)
    assert exposed(registry, "http_requests_total", method="other", path="unmatched", status="404")
    assert exposed(registry, "http_requests_total", method="PUT", path="/cached", status="405")
    assert b"VERB" not in generate_latest(registry)


@pytest.mark.parametrize(
    "path", ["/a\nfake line", "/\x1b[31mred", "/\u202eright to left", "/" + "x" * 10_000, "/\ud800"]
)
async def test_a_hostile_path_is_written_as_plain_short_ascii(app, path):
    exchange = Exchange(path="/")
    exchange.scope["path"] = path
    with capture_logs() as logs:
        await exchange.run(app)
    told = line(logs)["path"]
    assert set(told) <= set(string.printable) - set("\n\r\t\x0b\x0c")
    assert len(told) <= 2000


async def test_a_crash_is_logged_once_with_its_traceback_and_answered_without(app):
    with capture_logs() as logs:
        exchange = await Exchange(path="/crash").run(app)
    assert exchange.status == 500
    assert json.loads(exchange.body)["code"] == "internal"
    assert SECRET.encode() not in exchange.body
    assert [each["event"] for each in logs] == ["http.crashed", "http.answered"]
    assert logs[0]["exc_info"] is True
    assert line(logs)["status"] == 500


async def test_an_answer_that_crashes_half_way_is_cut_off(app):
    with capture_logs() as logs:
        exchange = await Exchange(path="/stream").run(app)
    assert exchange.body == b"first"
    assert not exchange.is_complete
    assert line(logs)["complete"] is False


async def test_a_caller_who_hung_up_before_any_answer_counts_as_499(registry):
    async def silent(scope, receive, send):
        await receive()

    app = Recorder(silent, metrics=HttpMetrics(registry), answer=answer)
    with capture_logs() as logs:
        await Exchange(hangs_up=True).run(app)
    assert line(logs)["status"] == 499


async def test_an_answer_to_a_caller_who_hung_up_meanwhile_counts_as_499_too(registry):
    async def late(scope, receive, send):
        await receive()
        await JSONResponse({"cancelled": True}, 409)(scope, receive, send)

    app = Recorder(late, metrics=HttpMetrics(registry), answer=answer)
    with capture_logs() as logs:
        exchange = await Exchange(hangs_up=True).run(app)
    assert exchange.sent == []
    assert (line(logs)["status"], line(logs)["bytes"], line(logs)["complete"]) == (499, 0, False)


async def test_a_request_that_is_cancelled_is_recorded_as_well(registry):
    async def waiting(scope, receive, send):
        await asyncio.Event().wait()

    app = Recorder(waiting, metrics=HttpMetrics(registry), answer=answer)
    exchange = Exchange()
    with capture_logs() as logs, pytest.raises(TimeoutError):
        await asyncio.wait_for(app(exchange.scope, exchange.receive, exchange.send), 0.01)
    assert line(logs)["status"] == 499
    assert exposed(registry, "http_requests_open") == 0.0


@pytest.mark.parametrize("given", ["abc", "0af7651916cd43dd8448eb211c80319c", "a" * 128])
async def test_the_callers_request_id_comes_back(app, given):
    exchange = await Exchange(path="/v1/jobs/1", headers={"X-Request-Id": given}).run(app)
    assert exchange.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, "a\tb", '"', "é"])
async def test_a_request_id_that_is_none_is_replaced(app, given):
    exchange = await Exchange(path="/v1/jobs/1", headers={"X-Request-Id": given}).run(app)
    assert exchange.headers["x-request-id"] != given
    assert len(exchange.headers["x-request-id"]) == 32


async def test_a_door_may_say_how_long_its_answer_keeps(app):
    exchange = await Exchange(path="/cached", method="GET").run(app)
    assert exchange.headers["cache-control"] == "max-age=60"
    assert exchange.headers["x-content-type-options"] == "nosniff"


async def test_only_requests_are_recorded(registry):
    passed = []

    async def app(scope, receive, send):
        passed.append(scope["type"])

    with capture_logs() as logs:
        recorder = Recorder(app, metrics=HttpMetrics(registry), answer=answer)
        await recorder({"type": "lifespan"}, None, None)
    assert passed == ["lifespan"]
    assert logs == []


@pytest.mark.parametrize("body", [chunks(b"x")])
async def test_what_callers_write_is_not_logged(app, body):
    with capture_logs() as logs:
        await Exchange(chunks(SECRET.encode()), path="/v1/jobs/1").run(app)
    assert SECRET not in str(logs)
