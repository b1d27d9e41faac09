"""An instance announces itself, answers what it is asked, and says goodbye once."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from contracts.discovery import NodeState, ServiceMetadata
from contracts.topology import DISCOVERY, service_topology
from node.discovery import announcer as announcer_module
from node.discovery.announcer import ANSWERS_AT_ONCE, Announcer, questions_for
from node.discovery.identity import Figures, Identity
from node.discovery.restraint import COMPLAINTS_AT_ONCE
from node.ports import OutgoingMessage, Properties, Subscribed
from node.tasks import running
from tests.fakes import InMemoryBroker
from tests.harness import until


class World:
    """An announcer, and everything that it said."""

    def __init__(self, broker: InMemoryBroker, announcer: Announcer) -> None:
        self.broker = broker
        self.announcer = announcer
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.correlation_ids: list[str | None] = []
        self.users: set[str | None] = set()

    async def listen(self, subscription: Any) -> None:
        async for message in subscription:
            self.heard.append((message.routing_key, json.loads(message.body)))
            self.correlation_ids.append(message.properties.correlation_id)
            self.users.add(message.user_id)

    def ask(self, key: str, body: bytes = b'{"asker": "me"}', **properties: Any) -> None:
        self.broker.outbox.offer(OutgoingMessage(DISCOVERY, key, body, Properties(**properties)))

    def has_come_to_rest(self) -> bool:
        """Say whether every question was taken, and every answer heard."""
        return not any(queue.items for queue in self.broker.server.queues.values())

    def said(self, beginning: str) -> list[dict[str, Any]]:
        return [body for key, body in self.heard if key.startswith(beginning)]


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(announcer_module, "ANNOUNCE_INTERVAL_SECONDS", 3600.0)
    broker = InMemoryBroker()
    await broker.apply(service_topology("text2image"))
    about = ServiceMetadata(service_type="TEXT2IMAGE", state=NodeState.READY)
    done = Figures(0, 0, None, 0.0)
    identity = Identity("text2image", "Images", "one", 1, lambda: about, lambda: done)
    questions = broker.subscription(questions_for("text2image", "one"))
    world = World(broker, Announcer(identity, broker.outbox, questions))
    keys = ("announce.#", "goodbye.#", "reply.#")
    ears = broker.subscription([Subscribed(DISCOVERY, key) for key in keys])
    async with running(ears=ears.run(), listen=world.listen(ears)):
        await ears.queue_name()
        async with running(announcer=world.announcer.run()):
            await until(lambda: broker.server.route(DISCOVERY, "ping"), "the questions' queue")
            yield world


async def test_it_announces_itself_at_once(world: World) -> None:
    await until(lambda: world.said("announce.text2image.one"), "an announcement")


async def test_it_announces_itself_again_and_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcer_module, "ANNOUNCE_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(announcer_module, "ANNOUNCE_JITTER_SECONDS", 0.0)
    world.announcer.changed()
    await until(lambda: len(world.said("announce")) > 3, "more announcements")


async def test_news_are_announced_at_once(world: World) -> None:
    await until(lambda: world.said("announce"), "the first announcement")
    world.announcer.changed()
    await until(lambda: len(world.said("announce")) == 2, "a second announcement")
    assert [body["seq"] for body in world.said("announce")] == [1, 2]


async def test_no_announcement_follows_the_goodbye(world: World) -> None:
    await until(lambda: world.said("announce"), "the first announcement")
    world.announcer.goodbye("draining")
    world.announcer.changed()
    world.ask("ping")
    await until(lambda: world.said("reply.me"), "an answer after the goodbye")
    assert [key.split(".")[0] for key, _ in world.heard] == ["announce", "goodbye", "reply"]
    assert world.said("goodbye.text2image.one")[0]["reason"] == "draining"


@pytest.mark.parametrize("address", ["", ".text2image", ".text2image.one"])
async def test_it_answers_whoever_asks_everybody_its_service_or_itself(
    world: World, address: str
) -> None:
    for verb in ("ping", "info", "stats"):
        world.ask(verb + address, correlation_id=verb)
    await until(lambda: len(world.said("reply.me")) == 3, "three answers")
    kinds = [body["type"].split(".")[-1] for body in world.said("reply.me")]
    assert kinds == ["ping_response", "info_response", "stats_response"]
    assert world.correlation_ids[-3:] == ["ping", "info", "stats"]


async def test_it_is_silent_when_somebody_else_is_asked(world: World) -> None:
    world.ask("ping.text2image.two")
    world.ask("ping.llm")
    world.ask("ping", b'{"asker": "last"}')
    await until(lambda: world.said("reply.last"), "the answer to the last question")
    assert world.said("reply.me") == []


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\xff", b"[]", b"{}", b'{"asker": "a.b"}', b'{"asker": "#"}', b'{"asker": 1}'),
        b'{"asker": "' + b"x" * 5000 + b'"}',
    ],
)
async def test_a_question_that_makes_no_sense_is_survived(world: World, body: bytes) -> None:
    world.ask("ping", body)
    world.ask("ping")
    await until(lambda: world.said("reply.me"), "the answer to the next question")
    assert len(world.said("reply")) == 1


async def test_a_question_of_a_later_version_is_answered(world: World) -> None:
    world.ask("ping", b'{"asker": "me", "hops": 3}')
    await until(lambda: world.said("reply.me"), "the answer")


async def test_all_that_it_says_is_signed(world: World) -> None:
    world.ask("ping")
    world.announcer.goodbye("draining")
    await until(lambda: len({key.split(".")[0] for key, _ in world.heard}) == 3, "all kinds")
    assert world.users == {"guest"}


async def test_a_storm_of_pings_is_answered_at_a_bounded_rate(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(announcer_module, "_now", lambda: now)
    with capture_logs() as logged:
        for n in range(5000):
            world.ask("ping", b'{"asker": "storm-%d"}' % n)
        await until(world.has_come_to_rest, "the end of the storm")
        assert len(world.said("reply.storm")) == ANSWERS_AT_ONCE
        now = 1.0
        world.ask("ping")
        await until(lambda: world.said("reply.me"), "an answer a second later")
    assert 0 < len(logged) <= COMPLAINTS_AT_ONCE
    assert {each["event"] for each in logged} == {"discovery.questions_left"}


async def test_a_storm_of_nonsense_is_told_at_a_bounded_rate(world: World) -> None:
    with capture_logs() as logged:
        for _ in range(50):
            world.ask("ping", b"nonsense")
        world.ask("ping")
        await until(lambda: world.said("reply.me"), "the answer to the last question")
    assert len(logged) == COMPLAINTS_AT_ONCE


async def test_cancelling_it_ends_everything() -> None:
    broker = InMemoryBroker()
    await broker.apply(service_topology("text2image"))
    about = ServiceMetadata(service_type="TEXT2IMAGE", state=NodeState.READY)
    identity = Identity("s", "", "one", 1, lambda: about, lambda: Figures(0, 0, None, 0.0))
    announcer = Announcer(identity, broker.outbox, broker.subscription(questions_for("s", "one")))
    task = asyncio.create_task(announcer.run())
    await until(lambda: broker.server.route(DISCOVERY, "ping"), "the questions' queue")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert broker.server.route(DISCOVERY, "ping") == []
