"""Bodies: read before doors see them, and refused when too large, too slow or too many."""

import asyncio
import json

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from orchestrator_example.gateway import body_guard
from orchestrator_example.gateway.body_guard import BODIES_AT_ONCE, MAX_VALUES, BodyGuard
from tests.harness import until
from tests.unit.orchestrator_example.gateway.asgi import Exchange, answer, chunks

MAX_BYTES = 100


class Door:
    """An app that answers with what it was sent, and notes whether the caller hung up after it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.hung_up = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.bodies.append(await request.body())
        self.hung_up = (await receive())["type"] == "http.disconnect"
        await PlainTextResponse("made")(scope, receive, send)


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def impatient(monkeypatch):
    """The rest of a refused body is not waited for."""
    monkeypatch.setattr(body_guard, "LINGER_SECONDS", 0.01)


def guarded(door: Door, seconds: float = 20.0) -> BodyGuard:
    return BodyGuard(door, max_bytes=MAX_BYTES, seconds=seconds, answer=answer)


def refusal(exchange: Exchange) -> str:
    assert exchange.is_complete
    assert exchange.headers["connection"] == "close"
    return json.loads(exchange.body)["code"]


@pytest.mark.parametrize("body", [[b""], [b"a" * MAX_BYTES], [b"a" * 60, b"", b"b" * 40]])
async def test_a_door_gets_the_whole_body_and_learns_that_the_caller_hung_up(door, body):
    exchange = await Exchange(chunks(*body), hangs_up=True).run(guarded(door))
    assert exchange.body == b"made"
    assert door.bodies == [b"".join(body)]
    assert door.hung_up


@pytest.mark.parametrize("declared", ["101", "1" + "0" * 17, "9" * 5000])
async def test_a_declared_length_beyond_the_limit_is_refused_before_a_byte_is_read(
    door, declared, monkeypatch
):
    asked_before_the_answer = []

    class Watched(Exchange):
        async def send(self, message):
            asked_before_the_answer.append(self.asked)
            await super().send(message)

    exchange = Watched(chunks(b"a"), headers={"Content-Length": declared})
    await exchange.run(guarded(door))
    assert exchange.status == 413
    assert refusal(exchange) == "body_too_large"
    assert asked_before_the_answer[0] == 0
    assert door.bodies == []


async def test_a_body_that_grows_beyond_the_limit_is_refused(door):
    exchange = await Exchange(chunks(*[b"a" * 30] * 4)).run(guarded(door))
    assert exchange.status == 413
    assert refusal(exchange) == "body_too_large"
    assert door.bodies == []


@pytest.mark.parametrize("lie", ["5", "-1", "abc", "", "²", "1e3"])
async def test_a_content_length_that_lies_changes_nothing(door, lie):
    exchange = Exchange(chunks(b"a" * 101), headers={"Content-Length": lie})
    assert (await exchange.run(guarded(door))).status == 413


async def test_the_rest_of_a_refused_body_is_read_before_the_connection_closes(door):
    exchange = await Exchange(chunks(*[b"a" * 101] * 50)).run(guarded(door))
    assert exchange.status == 413
    assert exchange.asked == 50


@pytest.mark.usefixtures("impatient")
async def test_a_refused_body_without_an_end_is_not_read_for_ever(door):
    exchange = await Exchange(chunks(b"a" * 101, more=True)).run(guarded(door))
    assert refusal(exchange) == "body_too_large"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("arrived", [[], chunks(b"abc", more=True)])
async def test_a_body_that_does_not_end_in_time_is_refused(door, arrived):
    exchange = await Exchange(arrived).run(guarded(door, seconds=0.02))
    assert exchange.status == 408
    assert refusal(exchange) == "body_too_slow"
    assert door.bodies == []


@pytest.mark.parametrize("arrived", [[], chunks(b"abc", more=True)])
async def test_a_caller_who_hangs_up_while_sending_gets_no_answer(door, arrived):
    exchange = await Exchange(arrived, hangs_up=True).run(guarded(door))
    assert exchange.sent == []
    assert door.bodies == []


@pytest.mark.usefixtures("impatient")
async def test_what_arrives_at_once_is_bounded_and_room_comes_back(door):
    guard = guarded(door)
    halves = [Exchange(chunks(b"a" * MAX_BYTES, more=True)) for _ in range(BODIES_AT_ONCE)]
    arriving = [asyncio.create_task(each.run(guard)) for each in halves]
    await until(lambda: all(each.asked == 2 for each in halves))
    refused = await Exchange(chunks(b"a")).run(guard)
    assert refused.status == 503
    assert refusal(refused) == "busy"
    for each in arriving:
        each.cancel()
    await asyncio.gather(*arriving, return_exceptions=True)
    assert (await Exchange(chunks(b"a"), hangs_up=True).run(guard)).body == b"made"


LARGE = 2 * MAX_VALUES


@pytest.mark.parametrize("body", [b"[" * LARGE, b'{"a":' * MAX_VALUES, b"[" + b"[]," * LARGE])
async def test_a_body_of_countless_values_is_refused_without_reading_them(door, body):
    guard = BodyGuard(door, max_bytes=10 * LARGE, seconds=20.0, answer=answer)
    exchange = await Exchange(chunks(body)).run(guard)
    assert exchange.status == 413
    assert refusal(exchange) == "body_too_large"
    assert door.bodies == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b'{"image": "' + b"A" * LARGE + b'"}', "application/json"), (b"[" * LARGE, "multipart/x")],
)
async def test_large_pictures_are_no_countless_values(door, body, content_type):
    guard = BodyGuard(door, max_bytes=10 * LARGE, seconds=20.0, answer=answer)
    exchange = Exchange(chunks(body), headers={"Content-Type": content_type}, hangs_up=True)
    assert (await exchange.run(guard)).body == b"made"
    assert door.bodies == [body]


async def test_other_things_than_requests_pass():
    passed = []

    async def app(scope, receive, send):
        passed.append(scope["type"])

    guard = BodyGuard(app, max_bytes=1, seconds=1.0, answer=answer)
    await guard({"type": "lifespan"}, None, None)
    assert passed == ["lifespan"]
