"""Whoever asks who is there sees it once, or for as long as they watch."""

import io
import json
import re
from collections.abc import AsyncIterator

import pytest
from rich.console import Console

from contracts.discovery import Verb
from contracts.topology import DISCOVERY, service_topology
from node.app import SystemClock
from node.commands import services as services_module
from node.commands.services import ServicesView
from node.discovery.directory import ServiceDirectory
from node.ports import OutgoingMessage, Subscribed
from node.tasks import running
from tests.fakes import InMemoryBroker
from tests.harness import until
from tests.unit.discovery.messages import announcement, goodbye


class Watcher:
    """What one who watches sees, and what there is to see."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self.broker = broker
        self.directory = ServiceDirectory(broker, SystemClock())
        self.file = io.StringIO()
        self.console = Console(file=self.file, width=160)
        self.seq = 0
        self.looked = 0

    def view(self, *, stats: bool = False) -> ServicesView:
        return ServicesView(self.directory, SystemClock(), self.console, stats=stats)

    def announce(self, instance: str) -> None:
        self.seq += 1
        said = announcement(instance, seq=self.seq)
        self.say(f"announce.text2image.{instance}", said.to_json())

    def say(self, key: str, body: bytes) -> None:
        self.broker.outbox.offer(OutgoingMessage(DISCOVERY, key, body))

    @property
    def seen(self) -> str:
        return self.file.getvalue()

    @property
    def times_shown(self) -> int:
        return len(re.findall(r"^\d\d:\d\d:\d\d$", self.seen, re.MULTILINE))

    async def looks(self, times: int = 5) -> None:
        """Wait until it looked a few more times."""
        looks = self.looked + times
        await until(lambda: self.looked >= looks, "some looks")


@pytest.fixture
async def watcher(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watcher]:
    monkeypatch.setattr(services_module, "REDRAW_SECONDS", 0.001)
    broker = InMemoryBroker()
    await broker.apply(service_topology("text2image"))
    watcher = Watcher(broker)
    look = ServicesView._look

    def counted(view: ServicesView) -> object:
        watcher.looked += 1
        return look(view)

    monkeypatch.setattr(ServicesView, "_look", counted)
    async with running(directory=watcher.directory.run()):
        await until(lambda: broker.server.route(DISCOVERY, "announce.x.y"), "the subscription")
        yield watcher


async def test_who_asks_once_sees_the_table(watcher: Watcher) -> None:
    watcher.announce("one")
    await until(watcher.directory.services, "the announcement")
    await watcher.view().once(0.0, as_json=False)
    assert "one" in watcher.seen


async def test_a_program_that_asks_once_gets_one_document(watcher: Watcher) -> None:
    watcher.announce("one")
    await until(watcher.directory.services, "the announcement")
    await watcher.view().once(0.0, as_json=True)
    assert [each["id"] for each in json.loads(watcher.seen)["services"]] == ["one"]


async def test_into_a_pipe_only_what_changed_is_printed(watcher: Watcher) -> None:
    async with running(watch=watcher.view().watch(0.0, as_json=False)):
        await until(lambda: "no service is announced" in watcher.seen, "the empty table")
        watcher.announce("one")
        await until(lambda: watcher.times_shown == 2, "the table with one")
        for _ in range(3):
            watcher.announce("one")
            await watcher.looks()
        assert watcher.times_shown == 2
        watcher.say("goodbye.text2image.one", goodbye("one", seq=99).to_json())
        await until(lambda: watcher.times_shown == 3, "the empty table again")
    assert "\x1b" not in watcher.seen


async def test_programs_get_a_line_for_each_change(watcher: Watcher) -> None:
    async with running(watch=watcher.view().watch(0.0, as_json=True)):
        await until(lambda: watcher.seen.count("\n") == 1, "the first line")
        watcher.announce("one")
        await until(lambda: watcher.seen.count("\n") == 2, "the second line")
        await watcher.looks()
    lines = [json.loads(line) for line in watcher.seen.splitlines()]
    assert [len(each["services"]) for each in lines] == [0, 1]


async def test_a_broker_that_goes_away_is_told_and_nobody_is_gone(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(watch=watcher.view().watch(0.0, as_json=False)):
        watcher.announce("one")
        await until(lambda: "one" in watcher.seen, "the table with one")
        monkeypatch.setattr(watcher.broker, "connected", lambda: False)
        monkeypatch.setattr(watcher.broker, "problem", lambda: "connection lost: reset")
        await until(lambda: "broker away: connection lost: reset" in watcher.seen, "the remark")
        await watcher.looks()
        shown = watcher.times_shown
        assert "one" in watcher.seen[watcher.seen.rindex("instance") :]
        monkeypatch.setattr(watcher.broker, "connected", lambda: True)
        await until(lambda: watcher.times_shown == shown + 1, "the table without the remark")


async def test_on_a_terminal_the_table_is_drawn_in_place(watcher: Watcher) -> None:
    watcher.console = Console(file=watcher.file, width=160, force_terminal=True)
    async with running(watch=watcher.view().watch(0.0, as_json=False)):
        watcher.announce("one")
        await until(lambda: "one" in watcher.seen, "the announcement")
        await watcher.looks()
    assert "\x1b[1A" in watcher.seen


async def test_stats_are_asked_for(watcher: Watcher) -> None:
    asked = watcher.broker.subscription([Subscribed(DISCOVERY, f"{Verb.STATS}.#")])
    async with running(asked=asked.run()):
        await asked.queue_name()
        watcher.announce("one")
        await until(watcher.directory.services, "the announcement")
        await watcher.view(stats=True).once(0.0, as_json=False)
        assert (await anext(aiter(asked))).routing_key == "stats"
    assert "requests" in watcher.seen
