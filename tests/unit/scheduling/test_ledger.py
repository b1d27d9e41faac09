"""One job id is one job, and everyone who asks for it is answered exactly once."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from node.scheduling import ledger as ledger_module
from node.scheduling.ledger import TOMBSTONE_SECONDS, Asker, Claim, Ledger
from tests.unit.builders import delivery, job, succeeded

IDS = ("a", "b", "c")


def asker(job_id: str = "a", *, tag: int = 1, generation: int = 1, **given) -> Asker:
    redelivered = given.pop("redelivered", False)
    return Asker(
        job(job_id, **given), delivery(tag=tag, generation=generation, redelivered=redelivered)
    )


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(max_finished=2, max_finished_bytes=1000)


def test_a_new_id_is_a_new_job_that_waits(ledger: Ledger) -> None:
    assert ledger.claim(asker("a")) is Claim.NEW
    assert ledger.is_waiting("a")
    assert [each.id for each in ledger.waiting()] == ["a"]
    assert ledger.active("a").id == "a"


def test_a_copy_joins_whether_the_job_waits_or_runs(ledger: Ledger) -> None:
    first, second, third = (asker(tag=n) for n in (1, 2, 3))
    ledger.claim(first)
    assert ledger.claim(second) is Claim.JOINED
    assert ledger.start_next().id == "a"
    assert ledger.claim(third) is Claim.JOINED
    assert ledger.finish("a", succeeded("a"), 1) == [first, second, third]


def test_another_body_under_the_same_id_is_a_conflict_also_after_the_end(ledger: Ledger) -> None:
    ledger.claim(asker())
    assert ledger.claim(asker(fingerprint="other")) is Claim.CONFLICT
    ledger.finish("a", succeeded("a"), 1)
    assert ledger.claim(asker(fingerprint="other")) is Claim.CONFLICT


def test_a_finished_job_is_replayed_and_not_run_again(ledger: Ledger) -> None:
    ledger.claim(asker())
    outcome = succeeded("a")
    ledger.finish("a", outcome, 1)
    assert ledger.claim(asker(tag=2)) is Claim.FINISHED
    assert ledger.outcome("a") is outcome
    assert ledger.is_finished("a")
    assert ledger.start_next() is None


def test_a_dropped_job_is_new_when_it_comes_again(ledger: Ledger) -> None:
    first = asker()
    ledger.claim(first)
    assert ledger.drop("a") == [first]
    assert ledger.claim(asker(tag=2)) is Claim.NEW


def test_a_started_job_is_not_started_twice(ledger: Ledger) -> None:
    ledger.claim(asker())
    assert ledger.start_next().id == "a"
    assert ledger.start_next() is None
    assert (ledger.knows("a"), ledger.is_waiting("a")) == (True, False)


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


def test_two_copies_lost_together_come_back_as_two(ledger: Ledger) -> None:
    ledger.claim(asker(tag=1))
    ledger.claim(asker(tag=2))
    again = [asker(tag=n, generation=2, redelivered=True) for n in (1, 2)]
    for each in again:
        ledger.claim(each)
    assert ledger.drop("a") == again


def test_the_oldest_results_are_forgotten_by_number(ledger: Ledger) -> None:
    for name in "abc":
        ledger.claim(asker(name))
        ledger.finish(name, succeeded(name), 1)
    assert [name for name in "abc" if ledger.is_finished(name)] == ["b", "c"]


def test_the_oldest_results_are_forgotten_by_size_but_never_the_latest(ledger: Ledger) -> None:
    for name, size in (("a", 400), ("b", 700), ("c", 5000)):
        ledger.claim(asker(name))
        ledger.finish(name, succeeded(name), size)
    assert [name for name in "abc" if ledger.is_finished(name)] == ["c"]


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

    @initialize(max_finished=st.integers(1, 3), max_bytes=st.integers(0, 30))
    def begin(self, max_finished: int, max_bytes: int) -> None:
        self.ledger = Ledger(max_finished, max_bytes)
        self.max_finished = max_finished
        self.generation = 1
        self.tags = iter(range(1, 10**6))
        self.inside: dict[str, list[Asker]] = {}
        self.running: set[str] = set()
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
            case Claim.FINISHED:
                assert before is None
                assert self.ledger.outcome(job_id).result.job_id == job_id
            case Claim.CONFLICT:
                assert before is None or before[0].job.fingerprint != fingerprint

    def lost(self, old: Asker, new: Asker) -> bool:
        """Say whether the broker took `old` back, as a redelivery on a later connection shows."""
        same_caller = old.job.envelope.reply_to == new.job.envelope.reply_to
        earlier = old.delivery.generation < new.delivery.generation
        return new.delivery.redelivered and same_caller and earlier

    @rule()
    def lose_connection(self) -> None:
        self.generation += 1

    @rule()
    def start(self) -> None:
        waiting = set(self.inside) - self.running
        chosen = self.ledger.start_next()
        assert (chosen is None) == (not waiting)
        if chosen is not None:
            assert chosen.id in waiting
            self.running.add(chosen.id)

    @rule(data=st.data(), size=st.integers(0, 20), drop=st.booleans())
    def end(self, data: st.DataObject, size: int, drop: bool) -> None:
        if not self.inside:
            return
        job_id = data.draw(st.sampled_from(sorted(self.inside)))
        if drop:
            out = self.ledger.drop(job_id)
        else:
            out = self.ledger.finish(job_id, succeeded(job_id), size)
            assert self.ledger.is_finished(job_id)
        assert out == self.inside.pop(job_id)
        self.running.discard(job_id)
        self.came_out += out

    @invariant()
    def everybody_is_in_one_place(self) -> None:
        assert {each.id for each in self.ledger.waiting()} == set(self.inside) - self.running
        assert all(self.ledger.knows(job_id) for job_id in self.running)
        assert sum(self.ledger.is_finished(job_id) for job_id in IDS) <= self.max_finished
        tags = [each.delivery.tag for each in self.came_out]
        assert len(tags) == len(set(tags))

    def teardown(self) -> None:
        for job_id in list(getattr(self, "inside", ())):
            assert self.ledger.drop(job_id) == self.inside.pop(job_id)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
