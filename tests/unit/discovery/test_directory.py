"""Who is live, as one listener sees it on its own clock."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.discovery import (
    Announcement,
    Goodbye,
    NodeState,
    PingReply,
    ServiceMetadata,
)
from contracts.topology import DISCOVERY, service_topology
from node.discovery.directory import ServiceDirectory, ServiceTable
from node.ports import OutgoingMessage, Subscribed
from node.tasks import running
from tests.fakes import InMemoryBroker, ManualClock
from tests.harness import until

ABOUT = ServiceMetadata(service_type="TEXT2IMAGE", state=NodeState.READY)


def announcement(instance: str = "one", incarnation: int = 1, seq: int = 1, **given: Any) -> Any:
    return Announcement(
        **{
            "name": "text2image",
            "id": instance,
            "version": "1",
            "metadata": ABOUT,
            "description": "Images",
            "endpoints": [],
            "incarnation": incarnation,
            "seq": seq,
            "ttl_seconds": 15.0,
        }
        | given
    )


def ping_reply(instance: str = "one", incarnation: int = 1, seq: int = 1) -> PingReply:
    return PingReply(
        name="text2image",
        id=instance,
        version="1",
        metadata=ABOUT,
        incarnation=incarnation,
        seq=seq,
    )


def goodbye(instance: str = "one", incarnation: int = 1, seq: int = 2) -> Goodbye:
    return Goodbye(
        name="text2image", id=instance, incarnation=incarnation, seq=seq, reason="draining"
    )


@pytest.fixture
def table() -> ServiceTable:
    return ServiceTable({}, {})


def live(table: ServiceTable, now: float = 0.0) -> list[str]:
    return [entry.instance_id for entry in table.live(now)]


def test_who_announces_itself_is_there(table: ServiceTable) -> None:
    table.hear(announcement("two"), 0.0)
    table.hear(announcement("one"), 0.0)
    assert live(table) == ["one", "two"]


def test_a_late_listener_learns_of_everybody_from_answers_to_its_ping(table: ServiceTable) -> None:
    table.hear(ping_reply("one", seq=41), 0.0)
    assert live(table) == ["one"]


def test_who_falls_silent_is_gone_after_its_ttl_on_the_listeners_clock(table: ServiceTable) -> None:
    table.hear(announcement(ttl_seconds=15.0), now=1000.0)
    assert live(table, now=1014.9) == ["one"]
    assert live(table, now=1015.0) == []


def test_each_announcement_prolongs_the_life(table: ServiceTable) -> None:
    table.hear(announcement(seq=1), now=0.0)
    table.hear(announcement(seq=2), now=10.0)
    assert live(table, now=20.0) == ["one"]


def test_the_highest_number_wins_whatever_order_it_comes_in(table: ServiceTable) -> None:
    table.hear(announcement(seq=3, version="new"), 0.0)
    table.hear(announcement(seq=2, version="old"), 0.0)
    assert table.live(0.0)[0].version == "new"


def test_a_later_start_wins_over_any_number(table: ServiceTable) -> None:
    table.hear(announcement(incarnation=2, seq=1, version="restarted"), 0.0)
    table.hear(announcement(incarnation=1, seq=99, version="before"), 0.0)
    assert table.live(0.0)[0].version == "restarted"


def test_goodbye_is_at_once(table: ServiceTable) -> None:
    table.hear(announcement(seq=1), 0.0)
    table.hear(goodbye(seq=2), 0.0)
    assert live(table) == []


def test_an_announcement_overtaken_by_the_goodbye_changes_nothing(table: ServiceTable) -> None:
    table.hear(goodbye(seq=5), 0.0)
    table.hear(announcement(seq=4), 0.0)
    table.hear(ping_reply(seq=5), 0.0)
    assert live(table) == []


def test_who_starts_again_after_its_goodbye_is_there_again(table: ServiceTable) -> None:
    table.hear(announcement(incarnation=1), 0.0)
    table.hear(goodbye(incarnation=1), 0.0)
    table.hear(announcement(incarnation=2), 0.0)
    assert live(table) == ["one"]


def test_the_goodbye_of_an_earlier_start_comes_too_late(table: ServiceTable) -> None:
    table.hear(announcement(incarnation=2), 0.0)
    table.hear(goodbye(incarnation=1, seq=99), 0.0)
    assert live(table) == ["one"]


def test_an_older_goodbye_does_not_undo_a_later_one(table: ServiceTable) -> None:
    table.hear(goodbye(incarnation=2, seq=9), 0.0)
    table.hear(goodbye(incarnation=1, seq=5), 0.0)
    table.hear(announcement(incarnation=2, seq=8), 0.0)
    assert live(table) == []


def test_instances_of_other_services_are_kept_apart(table: ServiceTable) -> None:
    table.hear(announcement(name="text2image"), 0.0)
    table.hear(announcement(name="llm"), 0.0)
    table.hear(goodbye(), 0.0)
    assert [entry.name for entry in table.live(0.0)] == ["llm"]


ORDERS = st.tuples(st.integers(1, 3), st.integers(1, 4))
NEWS = st.lists(st.tuples(st.sampled_from([announcement, goodbye]), ORDERS), max_size=12)


@given(news=NEWS, data=st.data())
def test_the_order_of_arrival_does_not_matter(news: list[Any], data: st.DataObject) -> None:
    # One number is given once: an announcement and a goodbye never share it.
    unique = list({order: (kind, order) for kind, order in news}.values())
    tables = []
    for arrived in (unique, data.draw(st.permutations(unique))):
        table = ServiceTable({}, {})
        for kind, (incarnation, seq) in arrived:
            table.hear(kind(incarnation=incarnation, seq=seq), 0.0)
        tables.append([entry.order for entry in table.live(0.0)])
    assert tables[0] == tables[1]


@pytest.fixture
async def broker() -> InMemoryBroker:
    broker = InMemoryBroker()
    await broker.apply(service_topology("text2image"))
    return broker


def tell(broker: InMemoryBroker, key: str, body: bytes) -> None:
    broker.outbox.offer(OutgoingMessage(DISCOVERY, key, body))


async def test_a_directory_asks_once_and_takes_in_the_answers(broker: InMemoryBroker) -> None:
    questions = broker.subscription([Subscribed(DISCOVERY, "ping")])
    directory = ServiceDirectory(broker, ManualClock())
    async with running(questions=questions.run()):
        await questions.queue_name()
        async with running(directory=directory.run()):
            question = await anext(aiter(questions))
            asker = json.loads(question.body)["asker"]
            tell(broker, f"reply.{asker}", ping_reply("late").to_json())
            await until(directory.services, "the answer")
    assert [entry.instance_id for entry in directory.services()] == ["late"]


async def test_nonsense_is_survived_and_what_follows_is_heard(broker: InMemoryBroker) -> None:
    directory = ServiceDirectory(broker, ManualClock())
    async with running(directory=directory.run()):
        await until(lambda: broker.server.route(DISCOVERY, "announce.x.y"), "the subscription")
        for body in (b"", b"\xff", b"[]", b'{"type": "announce"}'):
            tell(broker, "announce.x.y", body)
        tell(broker, "announce.text2image.one", announcement().to_json())
        await directory.wait_for_change()
        assert [entry.instance_id for entry in directory.services()] == ["one"]


async def test_a_directory_forgets_by_its_own_clock(broker: InMemoryBroker) -> None:
    clock = ManualClock()
    directory = ServiceDirectory(broker, clock)
    async with running(directory=directory.run()):
        await until(lambda: broker.server.route(DISCOVERY, "announce.x.y"), "the subscription")
        tell(broker, "announce.text2image.one", announcement().to_json())
        await until(directory.services, "the announcement")
        clock.now += 15.0
        assert directory.services() == []
