"""Who is live, as one listener knows it on its own clock."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.discovery import table as table_module
from node.discovery.table import (
    FAREWELL_SECONDS,
    GAP_SECONDS,
    MAX_INSTANCES_OF_ONE_SERVICE,
    MAX_TTL_SECONDS,
    MIN_TTL_SECONDS,
    Notice,
    ServiceTable,
)
from tests.unit.discovery.messages import announcement, goodbye, ping_reply

ECHO_SECONDS = 2.0


@pytest.fixture
def table() -> ServiceTable:
    return ServiceTable()


def live(table: ServiceTable) -> list[str]:
    return [entry.instance_id for entry in table.live()]


def hearing_until(table: ServiceTable, now: float) -> ServiceTable:
    """Let time pass for a listener that hears, if nothing else, its own echo."""
    while table.heard_at < now:
        table.listen(min(max(table.heard_at, 0.0) + ECHO_SECONDS, now))
    return table


def test_who_announces_itself_is_there(table: ServiceTable) -> None:
    table.hear(announcement("two"), 0.0)
    table.hear(announcement("one"), 0.0)
    assert live(table) == ["one", "two"]


def test_a_late_listener_learns_of_everybody_from_answers_to_its_ping(table: ServiceTable) -> None:
    table.hear(ping_reply("one", seq=41), 0.0)
    assert live(table) == ["one"]


def test_who_falls_silent_is_gone_after_its_ttl_on_the_listeners_clock(table: ServiceTable) -> None:
    table.hear(announcement(ttl_seconds=15.0), now=1000.0)
    assert live(hearing_until(table, 1014.9)) == ["one"]
    assert live(hearing_until(table, 1015.0)) == []


def test_each_announcement_prolongs_the_life(table: ServiceTable) -> None:
    table.hear(announcement(seq=1), now=0.0)
    table.hear(announcement(seq=2), now=5.0)
    assert live(hearing_until(table, 19.0)) == ["one"]


def test_an_entry_says_when_it_was_heard_last(table: ServiceTable) -> None:
    table.hear(announcement(seq=1), now=3.0)
    table.hear(announcement(seq=2), now=8.0)
    assert table.live()[0].heard_at == 8.0


def test_the_highest_number_wins_whatever_order_it_comes_in(table: ServiceTable) -> None:
    table.hear(announcement(seq=3, version="new"), 0.0)
    table.hear(announcement(seq=2, version="old"), 0.0)
    assert table.live()[0].version == "new"


def test_a_later_start_wins_over_any_number(table: ServiceTable) -> None:
    table.hear(announcement(incarnation=2, seq=1, version="restarted"), 0.0)
    table.hear(announcement(incarnation=1, seq=99, version="before"), 0.0)
    assert table.live()[0].version == "restarted"


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


def test_who_starts_again_on_a_machine_whose_clock_is_behind_is_seen_soon(
    table: ServiceTable,
) -> None:
    table.hear(announcement(incarnation=1000), 0.0)
    table.hear(goodbye(incarnation=1000), 0.0)
    table.hear(announcement(incarnation=3, seq=1), 1.0)
    assert live(table) == []
    table.hear(announcement(incarnation=3, seq=8), FAREWELL_SECONDS)
    assert live(table) == ["one"]


def test_who_died_and_starts_again_on_a_clock_that_is_behind_is_seen_after_the_ttl(
    table: ServiceTable,
) -> None:
    table.hear(announcement(incarnation=1000, version="died"), 0.0)
    for seq, now in enumerate((4.0, 9.0, 14.0, 19.0), start=1):
        hearing_until(table, now)
        assert table.hear(announcement(incarnation=3, seq=seq, version="new"), now) is None
    (entry,) = table.live()
    assert (entry.version, entry.duplicate) == ("new", False)


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
    assert [entry.name for entry in table.live()] == ["llm"]


@pytest.mark.parametrize(
    ("said", "taken"),
    [(1e300, MAX_TTL_SECONDS), (86400.0, MAX_TTL_SECONDS), (1e-300, MIN_TTL_SECONDS), (7.0, 7.0)],
)
def test_a_ttl_that_makes_no_sense_is_bounded(
    table: ServiceTable, said: float, taken: float
) -> None:
    table.hear(announcement(ttl_seconds=said), 0.0)
    assert table.live()[0].live_until == taken


class TestWhileTheListenerHearsNothing:
    """Its own silence is not the end of others."""

    def test_nobody_is_forgotten(self, table: ServiceTable) -> None:
        table.hear(announcement("one"), 0.0)
        table.hear(announcement("two"), 4.0)
        assert live(table) == ["one", "two"]

    def test_everybody_gets_a_new_ttl_when_it_hears_again(self, table: ServiceTable) -> None:
        table.hear(announcement("one", ttl_seconds=15.0), 0.0)
        table.listen(3600.0)
        assert live(hearing_until(table, 3614.9)) == ["one"]
        assert live(hearing_until(table, 3615.0)) == []

    def test_what_is_known_of_two_processes_with_one_id_stays_known(
        self, table: ServiceTable
    ) -> None:
        twins = Twins(table)
        twins.announces("older", "later", "older", "later")
        assert twins.duplicate
        twins.now += 3600.0
        assert twins.duplicate

    def test_who_was_gone_before_stays_gone(self, table: ServiceTable) -> None:
        table.hear(announcement("one", ttl_seconds=15.0), 0.0)
        hearing_until(table, 16.0).listen(3600.0)
        assert live(table) == []

    def test_a_pause_that_is_shorter_than_a_gap_prolongs_no_life(self, table: ServiceTable) -> None:
        table.hear(announcement("one", ttl_seconds=15.0), 0.0)
        hearing_until(table, 12.0).listen(12.0 + GAP_SECONDS)
        assert live(table) == []


class Twins:
    """Two processes under one id that announce themselves in turns, heard by one listener."""

    def __init__(self, table: ServiceTable, *, older: int = 1, later: int = 2) -> None:
        self.table = table
        self.incarnations = {"older": older, "later": later}
        self.seq = {"older": 40, "later": 0}
        self.now = 0.0
        self.notices: list[Notice] = []
        self.shown: list[str] = []

    def announces(self, *who: str) -> None:
        for each in who:
            self.now += 2.5
            self.seq[each] += 1
            said = announcement(
                incarnation=self.incarnations[each], seq=self.seq[each], version=each
            )
            notice = hearing_until(self.table, self.now).hear(said, self.now)
            self.notices += [notice] if notice else []
            self.shown += [entry.version for entry in self.table.live()]

    @property
    def duplicate(self) -> bool:
        (entry,) = self.table.live()
        return entry.duplicate


class TestTwoProcessesWithOneId:
    """People see it; the one that started later holds, and nothing flaps."""

    def test_it_is_shown_and_told_once(self, table: ServiceTable) -> None:
        twins = Twins(table)
        twins.announces("older", *["later", "older"] * 10)
        assert twins.duplicate
        assert twins.notices == [Notice.DUPLICATE]
        assert twins.shown == ["older", *["later"] * 20]

    def test_it_is_seen_within_three_announcements(self, table: ServiceTable) -> None:
        twins = Twins(table)
        twins.announces("older", "later", "older", "later")
        assert twins.notices == [Notice.DUPLICATE]

    def test_it_is_seen_by_a_listener_that_comes_later(self, table: ServiceTable) -> None:
        twins = Twins(table)
        table.hear(ping_reply(incarnation=2, seq=0), 0.0)
        table.hear(ping_reply(incarnation=1, seq=40), 0.0)
        twins.announces("later", "older", "later")
        assert twins.notices == [Notice.DUPLICATE]

    def test_it_is_over_a_ttl_after_one_of_them_ended(self, table: ServiceTable) -> None:
        twins = Twins(table)
        twins.announces("older", "later", "older", "later")
        twins.announces(*["later"] * 6)
        assert not twins.duplicate

    def test_when_it_begins_anew_it_is_told_anew(self, table: ServiceTable) -> None:
        twins = Twins(table)
        twins.announces("older", "later", "older", *["later"] * 7, "older", "later")
        assert twins.notices == [Notice.DUPLICATE] * 2

    def test_the_goodbye_of_one_does_not_hide_the_other(self, table: ServiceTable) -> None:
        twins = Twins(table)
        twins.announces("older", "later", "older", "later")
        table.hear(goodbye(incarnation=2, seq=99), twins.now)
        twins.announces("older")
        assert twins.shown[-1] == "older"

    def test_the_goodbye_of_the_older_one_changes_nothing(self, table: ServiceTable) -> None:
        twins = Twins(table)
        twins.announces("older", "later", "older", "later")
        table.hear(goodbye(incarnation=1, seq=99), twins.now)
        assert live(table) == ["one"]

    def test_two_that_started_in_the_same_millisecond_are_seen(self, table: ServiceTable) -> None:
        twins = Twins(table, older=7, later=7)
        twins.seq["later"] = 40
        twins.announces(*["older", "later"] * 4)
        assert twins.duplicate

    def test_what_a_process_said_before_its_restart_and_comes_late_is_no_second_one(
        self, table: ServiceTable
    ) -> None:
        table.hear(announcement(incarnation=1, seq=1), 0.0)
        table.hear(announcement(incarnation=2, seq=1), 1.0)
        table.hear(announcement(incarnation=1, seq=2), 1.5)
        assert table.hear(announcement(incarnation=2, seq=2), 5.0) is None
        assert not table.live()[0].duplicate

    def test_restarts_one_after_the_other_are_no_second_one(self, table: ServiceTable) -> None:
        for incarnation in range(1, 6):
            for seq in range(1, 4):
                now = incarnation * 15.0 + seq * 5.0
                said = announcement(incarnation=incarnation, seq=seq)
                assert hearing_until(table, now).hear(said, now) is None
                table.hear(ping_reply(incarnation=incarnation, seq=seq), now)
        assert not table.live()[0].duplicate


class TestAStormOfAnnouncements:
    """Memory is bounded, and who was known before is not pushed out."""

    def test_one_service_has_a_bounded_number_of_instances(self, table: ServiceTable) -> None:
        notices = [table.hear(announcement(f"n{i}"), 0.0) for i in range(2000)]
        assert len(live(table)) == MAX_INSTANCES_OF_ONE_SERVICE
        assert notices.index(Notice.FULL) == MAX_INSTANCES_OF_ONE_SERVICE

    def test_another_service_still_finds_room(self, table: ServiceTable) -> None:
        for i in range(2000):
            table.hear(announcement(f"n{i}"), 0.0)
        assert table.hear(announcement("one", name="captioner"), 0.0) is None

    def test_all_services_together_are_bounded(
        self, table: ServiceTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(table_module, "MAX_INSTANCES", 10)
        for i in range(100):
            table.hear(announcement(name=f"service-{i}"), 0.0)
            table.hear(goodbye(f"gone-{i}"), 0.0)
        assert len(live(table)) == 10
        assert len(table._gone) == 10

    def test_who_was_there_before_goes_on(self, table: ServiceTable) -> None:
        table.hear(announcement("known", seq=1), 0.0)
        for i in range(2000):
            table.hear(announcement(f"n{i}"), 0.0)
        table.hear(announcement("known", seq=2, version="2"), 5.0)
        (known,) = [e for e in table.live() if e.instance_id == "known"]
        assert known.version == "2"

    def test_there_is_room_again_once_the_others_expired(self, table: ServiceTable) -> None:
        for i in range(2000):
            table.hear(announcement(f"n{i}"), 0.0)
        hearing_until(table, 16.0).hear(announcement("late"), 16.0)
        assert live(table) == ["late"]


ORDERS = st.tuples(st.integers(1, 3), st.integers(1, 4))
NEWS = st.lists(st.tuples(st.sampled_from([announcement, goodbye]), ORDERS), max_size=12)


@given(news=NEWS, data=st.data())
def test_the_order_of_arrival_does_not_matter(news: list[Any], data: st.DataObject) -> None:
    # One number is given once: an announcement and a goodbye never share it.
    unique = list({order: (kind, order) for kind, order in news}.values())
    tables = []
    for arrived in (unique, data.draw(st.permutations(unique))):
        table = ServiceTable()
        for kind, (incarnation, seq) in arrived:
            table.hear(kind(incarnation=incarnation, seq=seq), 0.0)
        tables.append([entry.order for entry in table.live()])
    assert tables[0] == tables[1]
