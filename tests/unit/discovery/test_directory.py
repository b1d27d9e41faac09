"""A listener keeps the table, as far as it hears, and says so when it does not."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from contracts.discovery import EndpointStats, StatsReply, Verb
from contracts.text2image import Text2ImageRequest
from contracts.topology import DISCOVERY, service_topology
from node.discovery import directory as directory_module
from node.discovery.directory import ServiceDirectory
from node.discovery.restraint import COMPLAINTS_AT_ONCE
from node.discovery.table import GAP_SECONDS
from node.ports import OutgoingMessage, Subscribed
from node.tasks import running
from tests.fakes import InMemoryBroker, ManualClock
from tests.harness import until
from tests.unit.discovery.messages import ABOUT, announcement, goodbye, ping_reply


class Listener:
    """A directory, what it asks, and what others tell it."""

    def __init__(self, broker: InMemoryBroker, *, verify: bool = False) -> None:
        self.broker = broker
        self.clock = ManualClock()
        self.directory = ServiceDirectory(broker, self.clock, verify=verify)
        self.questions = broker.subscription([Subscribed(DISCOVERY, "ping")])
        self.asked: list[str] = []

    async def collect(self) -> None:
        async for question in self.questions:
            self.asked.append(json.loads(question.body)["asker"])

    def tell(self, key: str, said: Any, *, signed: bool = False) -> None:
        body = said if isinstance(said, bytes) else said.to_json()
        self.broker.outbox.offer(OutgoingMessage(DISCOVERY, key, body, signed=signed))

    def announce(self, said: Any, **given: Any) -> None:
        self.tell(f"announce.{said.name}.{said.id}", said, **given)

    def names(self) -> list[str]:
        return [entry.instance_id for entry in self.directory.services()]

    async def hears_itself(self) -> None:
        """Wait until an echo came at the time that the clock shows."""
        table = self.directory._table
        await until(lambda: table.heard_at == self.clock.now, "an echo")

    async def pass_time(self, seconds: float) -> None:
        """Let time pass in steps that are shorter than a gap."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(self.clock.now + 2.0, end)
            await self.hears_itself()


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> InMemoryBroker:
    monkeypatch.setattr(directory_module, "ECHO_SECONDS", 0.005)
    broker = InMemoryBroker()
    await broker.apply(service_topology("text2image"))
    return broker


@pytest.fixture
async def listener(broker: InMemoryBroker) -> AsyncIterator[Listener]:
    listener = Listener(broker)
    async with running(questions=listener.questions.run(), collect=listener.collect()):
        await listener.questions.queue_name()
        async with running(directory=listener.directory.run()):
            await listener.hears_itself()
            yield listener


async def test_it_asks_once_and_takes_in_the_answers(listener: Listener) -> None:
    await until(lambda: listener.asked, "the ping")
    listener.tell(f"reply.{listener.asked[0]}", ping_reply("late"))
    await until(listener.directory.services, "the answer")
    await listener.pass_time(30.0)
    assert len(listener.asked) == 1


async def test_it_asks_again_after_each_reconnection(listener: Listener) -> None:
    for times in (2, 3):
        listener.directory._subscription.interrupt(0.0)
        await until(lambda n=times: len(listener.asked) == n, "the next ping")
    assert len(set(listener.asked)) == 1


async def test_it_forgets_by_its_own_clock(listener: Listener) -> None:
    listener.announce(announcement(ttl_seconds=15.0))
    await until(listener.directory.services, "the announcement")
    await listener.pass_time(14.9)
    assert listener.names() == ["one"]
    await listener.pass_time(0.1)
    assert listener.names() == []


async def test_nonsense_is_survived_and_what_follows_is_heard(listener: Listener) -> None:
    for body in (b"", b"\xff", b"[]", b'{"type": "announce"}', b"x" * 100_000):
        listener.tell("announce.x.y", body)
    listener.announce(announcement())
    await listener.directory.wait_for_change()
    assert listener.names() == ["one"]


async def test_whoever_speaks_under_another_name_is_not_believed(listener: Listener) -> None:
    listener.announce(announcement("one"))
    listener.tell("announce.captioner.x", announcement("false"))
    listener.tell("goodbye.captioner.x", goodbye("one"))
    listener.announce(announcement("last"))
    await until(lambda: "last" in listener.names(), "the last announcement")
    assert listener.names() == ["last", "one"]


async def test_a_storm_of_nonsense_is_told_at_a_bounded_rate(listener: Listener) -> None:
    with capture_logs() as logged:
        for n in range(1000):
            listener.tell("announce.x.y", f"nonsense {n}".encode())
        listener.announce(announcement())
        await until(listener.directory.services, "the announcement")
        assert len(logged) == COMPLAINTS_AT_ONCE
        await listener.pass_time(10.0)
        listener.tell("announce.x.y", b"again")
        await until(lambda: len(logged) > COMPLAINTS_AT_ONCE, "the next complaint")
    assert logged[-1]["left_out"] == 1000 - COMPLAINTS_AT_ONCE


async def test_two_processes_with_one_id_are_told_once(listener: Listener) -> None:
    with capture_logs() as logged:
        for n in range(1, 9):
            listener.announce(announcement(incarnation=1 + n % 2, seq=n))
            await listener.pass_time(3.0)
    (warning,) = logged
    assert (warning["event"], warning["instance_id"]) == ("discovery.duplicate_instance", "one")
    assert "NODE_INSTANCE_ID" in warning["remedy"]
    assert listener.directory.services()[0].duplicate


async def test_only_users_named_like_the_service_are_believed_where_that_is_asked(
    broker: InMemoryBroker,
) -> None:
    listener = Listener(broker, verify=True)
    async with running(directory=listener.directory.run()):
        await listener.hears_itself()
        listener.announce(announcement("unsigned"))
        for user in ("captioner", "text2image", "text2image.gpu-1"):
            broker.server.user = user
            listener.announce(announcement(user.replace(".", "-")), signed=True)
        await until(lambda: len(listener.names()) == 2, "those who are believed")
    assert listener.names() == ["text2image", "text2image-gpu-1"]


async def test_answers_to_stats_are_kept_of_who_is_there(listener: Listener) -> None:
    def stats(instance: str) -> StatsReply:
        done = EndpointStats(
            name="x",
            subject="x",
            queue_group="x",
            num_requests=3,
            num_errors=1,
            processing_time=6.0,
            average_processing_time=2.0,
        )
        about = {"name": "text2image", "id": instance, "version": "1", "metadata": ABOUT}
        return StatsReply(**about, started="2026-01-31T12:00:00.000Z", endpoints=[done])

    await until(lambda: listener.asked, "the ping")
    (asker,) = listener.asked
    listener.announce(announcement("one"))
    for instance in ("nobody", "one"):
        listener.tell(f"reply.{asker}", stats(instance))
    await until(listener.directory.stats, "the answer")
    assert list(listener.directory.stats()) == [("text2image", "one")]
    listener.tell("goodbye.text2image.one", goodbye("one"))
    await until(lambda: not listener.directory.services(), "the goodbye")
    assert listener.directory.stats() == {}


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ((), "stats"),
        (("text2image",), "stats.text2image"),
        (("text2image", "a"), "stats.text2image.a"),
    ],
)
async def test_it_asks_everybody_a_service_or_one_instance(
    broker: InMemoryBroker, address: tuple[str, ...], key: str
) -> None:
    questions = broker.subscription([Subscribed(DISCOVERY, "stats.#")])
    async with running(questions=questions.run()):
        await questions.queue_name()
        ServiceDirectory(broker, ManualClock()).ask(Verb.STATS, *address)
        assert (await anext(aiter(questions))).routing_key == key


class TestACutOffListener:
    """It does not take its own silence for the end of everybody else."""

    @pytest.fixture(autouse=True)
    async def cut_off(self, listener: Listener) -> None:
        listener.announce(announcement("one", ttl_seconds=15.0))
        await until(listener.directory.services, "the announcement")
        assert listener.directory.cut_off() == ""
        # Nothing gets through, as on a half-open link or with a broker that holds messages back.
        listener.directory._subscription.interrupt(0.2)
        await until(lambda: not listener.broker.server.route(DISCOVERY, "announce.x.y"), "the cut")
        listener.clock.now += 3600.0

    async def test_it_keeps_what_it_knew_and_says_that_it_is_cut_off(
        self, listener: Listener
    ) -> None:
        assert listener.names() == ["one"]
        assert "echo" in listener.directory.cut_off()

    async def test_everybody_has_a_ttl_to_be_heard_again(self, listener: Listener) -> None:
        await listener.hears_itself()
        assert listener.directory.cut_off() == ""
        await listener.pass_time(14.9)
        assert listener.names() == ["one"]
        await listener.pass_time(0.1)
        assert listener.names() == []

    async def test_its_verdicts_say_that_they_may_be_out_of_date(self, listener: Listener) -> None:
        verdict = listener.directory.can_serve("text2image", Text2ImageRequest(prompt="x"))
        assert verdict.possible
        assert "out of date" in verdict.reasons[-1]


async def test_a_connection_that_is_known_to_be_lost_is_told_at_once(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener.broker, "connected", lambda: False)
    monkeypatch.setattr(listener.broker, "problem", lambda: "connection lost: reset by peer")
    assert listener.directory.cut_off() == "connection lost: reset by peer"


async def test_a_listener_without_the_right_to_ask_says_so(broker: InMemoryBroker) -> None:
    listener = Listener(broker)
    broker.server.exchanges[DISCOVERY] = "direct"  # nothing is routed
    async with running(directory=listener.directory.run()):
        listener.clock.now += GAP_SECONDS + 1.0
        assert "may not ask" in listener.directory.cut_off()


async def test_it_judges_requests_by_what_it_hears(listener: Listener) -> None:
    request = Text2ImageRequest(prompt="x")
    assert not listener.directory.can_serve("text2image", request).possible
    listener.announce(announcement())
    await until(listener.directory.services, "the announcement")
    assert listener.directory.can_serve("text2image", request).possible
