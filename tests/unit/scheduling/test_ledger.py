"""One job id is one job, and everyone who asks for it is answered exactly once."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from node.scheduling import ledger as ledger_module
from node.scheduling.ledger import TOMBSTONE_SECONDS, Asker, Claim, Ledger
from tests.unit.builders import delivery, job

IDS = ("a", "b", "c")


def asker(job_id: str = "a", *, tag: int = 1, generation: int = 1, **given) -> Asker:
    redelivered = given.pop("redelivered", False)
    return Asker(
        job(job_id, **given), delivery(tag=tag, generation=generation, redelivered=redelivered)
    )


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_a_new_id_is_a_new_job_that_is_taken_and_does_not_start_yet(ledger: Ledger) -> None:
    new = asker("a")
    assert ledger.claim(new) is Claim.NEW
    assert ledger.has_taken(new.job)
    assert ledger.is_waiting("a")
    assert [each.id for each in ledger.waiting()] == ["a"]
    assert ledger.job("a") is new.job
    assert ledger.start_next() is None


def test_an_admitted_job_starts_and_is_no_longer_just_taken(ledger: Ledger) -> None:
    new = asker("a")
    ledger.claim(new)
    ledger.admit("a")
    assert not ledger.has_taken(new.job)
    assert ledger.is_waiting("a")
    assert ledger.start_next() is new.job
    assert ledger.start_next() is None
    assert (ledger.knows("a"), ledger.is_waiting("a")) == (True, False)


def test_a_copy_joins_as_long_as_the_job_is_here(ledger: Ledger) -> None:
    copies = [asker(tag=n) for n in range(4)]
    ledger.claim(copies[0])
    assert ledger.claim(copies[1]) is Claim.JOINED
    ledger.admit("a")
    assert ledger.start_next().id == "a"
    assert ledger.claim(copies[2]) is Claim.JOINED
    ledger.end("a")
    assert ledger.claim(copies[3]) is Claim.JOINED
    assert ledger.drop("a") == copies


def test_another_body_under_the_same_id_is_a_conflict(ledger: Ledger) -> None:
    ledger.claim(asker())
    assert ledger.claim(asker(fingerprint="other")) is Claim.CONFLICT


def test_a_job_that_is_over_does_not_wait(ledger: Ledger) -> None:
    ledger.claim(asker())
    ledger.end("a")
    assert not ledger.is_waiting("a")
    assert ledger.waiting() == []
    assert ledger.start_next() is None


def test_a_dropped_job_is_new_when_it_comes_again_and_another_one_than_before(
    ledger: Ledger,
) -> None:
    first, second = asker(), asker(tag=2)
    ledger.claim(first)
    assert ledger.drop("a") == [first]
    assert ledger.claim(second) is Claim.NEW
    assert ledger.has_taken(second.job)
    assert not ledger.has_taken(first.job)


def test_a_redelivery_takes_the_place_of_the_delivery_that_was_lost(ledger: Ledger) -> None:
    again = asker(tag=7, generation=2, redelivered=True)
    ledger.claim(asker(tag=1))
    assert ledger.claim(again) is Claim.JOINED
    assert ledger.drop("a") == [again]


@pytest.mark.parametrize("other", [{"reply_to": "else"}, {"correlation_id": "else"}])
def test_a_redelivery_for_another_caller_replaces_nobody(
    ledger: Ledger, other: dict[str, str]
) -> None:
    first = asker(tag=1)
    again = asker(tag=7, generation=2, redelivered=True, envelope=other)
    ledger.claim(first)
    ledger.claim(again)
    assert ledger.drop("a") == [first, again]


def test_the_family_of_a_job_is_what_was_started_for_it(ledger: Ledger) -> None:
    for job_id in ("a", "a:b:1", "a:b:1:c:1", "a:b:2", "ab:1", "b:a:1"):
        ledger.claim(asker(job_id))
    assert ledger.family("a") == ["a", "a:b:1", "a:b:1:c:1", "a:b:2"]
    assert ledger.family("a:b:1") == ["a:b:1", "a:b:1:c:1"]
    assert ledger.family("c") == []


def test_a_cancel_that_came_early_is_meant_for_what_is_started_for_its_job_too(
    ledger: Ledger,
) -> None:
    ledger.bury("a:b", 0.0)
    buried = [each for each in ("a:b", "a:b:1", "a", "a:bc", "a:c:1") if ledger.is_buried(each, 1)]
    assert buried == ["a:b", "a:b:1"]
    assert not ledger.is_buried("a:b:1", TOMBSTONE_SECONDS + 1)


def test_two_copies_lost_together_come_back_as_two(ledger: Ledger) -> None:
    ledger.claim(asker(tag=1))
    ledger.claim(asker(tag=2))
    again = [asker(tag=n, generation=2, redelivered=True) for n in (1, 2)]
    for each in again:
        ledger.claim(each)
    assert ledger.drop("a") == again


def test_a_cancel_is_remembered_for_its_job_until_its_time_is_over(ledger: Ledger) -> None:
    ledger.bury("a", now=10.0)
    assert ledger.is_buried("a", now=10.0 + TOMBSTONE_SECONDS - 1)
    assert not ledger.is_buried("a", now=10.0 + TOMBSTONE_SECONDS)
    assert not ledger.is_buried("b", now=10.0)


def test_early_cancels_are_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MAX_TOMBSTONES", 3)
    for n in range(5):
        ledger.bury(str(n), now=0.0)
    assert [n for n in range(5) if ledger.is_buried(str(n), now=1.0)] == [2, 3, 4]


class LedgerMachine(RuleBasedStateMachine):
    """Claims, starts, ends, drops and lost connections in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.generation = 1
        self.tags = iter(range(1, 10**6))
        self.inside: dict[str, list[Asker]] = {}
        self.admitted: set[str] = set()
        self.begun: set[str] = set()
        self.came_out: list[Asker] = []

    @rule(
        job_id=st.sampled_from(IDS),
        fingerprint=st.sampled_from(["same", "same", "other"]),
        reply_to=st.sampled_from(["x", "y"]),
        redelivered=st.booleans(),
        priority=st.integers(0, 2),
    )
    def claim(self, job_id, fingerprint, reply_to, redelivered, priority) -> None:
        new = asker(
            job_id,
            tag=next(self.tags),
            generation=self.generation,
            redelivered=redelivered,
            fingerprint=fingerprint,
            priority=priority,
            envelope={"reply_to": reply_to},
        )
        before = self.inside.get(job_id)
        match self.ledger.claim(new):
            case Claim.NEW:
                assert before is None
                self.inside[job_id] = [new]
            case Claim.JOINED:
                assert before is not None
                assert before[0].job.fingerprint == fingerprint
                self.inside[job_id] = [e for e in before if not self.lost(e, new)] + [new]
            case Claim.CONFLICT:
                assert before is not None
                assert before[0].job.fingerprint != fingerprint

    def lost(self, old: Asker, new: Asker) -> bool:
        """Say whether the broker took `old` back, as a redelivery on a later connection shows."""
        same_caller = old.job.envelope.reply_to == new.job.envelope.reply_to
        earlier = old.delivery.generation < new.delivery.generation
        return new.delivery.redelivered and same_caller and earlier

    @rule()
    def lose_connection(self) -> None:
        self.generation += 1

    @rule(job_id=st.sampled_from(IDS))
    def admit(self, job_id: str) -> None:
        if job_id in self.inside and job_id not in self.begun:
            self.ledger.admit(job_id)
            self.admitted.add(job_id)

    @rule()
    def start(self) -> None:
        chosen = self.ledger.start_next()
        assert (chosen is None) == (not self.admitted)
        if chosen is not None:
            self.admitted.remove(chosen.id)
            self.begun.add(chosen.id)

    @rule(job_id=st.sampled_from(IDS))
    def end(self, job_id: str) -> None:
        if job_id in self.inside:
            self.ledger.end(job_id)
            self.admitted.discard(job_id)
            self.begun.add(job_id)

    @rule(job_id=st.sampled_from(IDS))
    def drop(self, job_id: str) -> None:
        if job_id in self.inside:
            out = self.ledger.drop(job_id)
            assert out == self.inside.pop(job_id)
            self.admitted.discard(job_id)
            self.begun.discard(job_id)
            self.came_out += out

    @invariant()
    def everybody_is_in_one_place(self) -> None:
        assert {each.id for each in self.ledger.waiting()} == set(self.inside) - self.begun
        assert {name for name in IDS if self.ledger.knows(name)} == set(self.inside)
        tags = [each.delivery.tag for each in self.came_out]
        assert len(tags) == len(set(tags))

    def teardown(self) -> None:
        for job_id in list(self.inside):
            assert self.ledger.drop(job_id) == self.inside.pop(job_id)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
