"""Limits of callers: rates and jobs at once, with an honest time to try again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_example.gateway.errors import TooManyRequests
from orchestrator_example.gateway.keys import Caller
from orchestrator_example.gateway.limits import UNKNOWN_JOB_SECONDS, Limits


class SetClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def limits(clock: SetClock) -> Limits:
    return Limits(clock)


def entered(limits: Limits, caller: Caller, attempts: int, *, end: bool = True) -> int:
    """Count how many of some attempts are let in; their jobs end at once, or not at all."""
    count = 0
    for _ in range(attempts):
        try:
            lease = limits.enter(caller)
        except TooManyRequests:
            continue
        count += 1
        if end:
            lease.release()
    return count


def refusal(limits: Limits, caller: Caller) -> TooManyRequests:
    with pytest.raises(TooManyRequests) as caught:
        limits.enter(caller)
    return caught.value


def test_a_caller_without_limits_is_always_let_in(limits):
    assert entered(limits, Caller("free"), 1000) == 1000


def test_a_minutes_worth_may_come_at_once_and_no_more(limits):
    assert entered(limits, Caller("a", requests_per_minute=6.0), 100) == 6


@pytest.mark.parametrize(("per_minute", "burst"), [(60.0, 2), (0.5, None)])
def test_a_burst_is_what_the_key_says_and_at_least_one(limits, per_minute, burst):
    caller = Caller("a", requests_per_minute=per_minute, burst=burst)
    assert entered(limits, caller, 100) == (burst or 1)


def test_after_a_refusal_the_told_time_is_enough_and_not_too_long(limits, clock):
    caller = Caller("a", requests_per_minute=7.0, burst=1)
    limits.enter(caller).release()
    clock.now += 3.0
    seconds = refusal(limits, caller).retry_after_seconds
    assert seconds == pytest.approx(60 / 7 - 3.0)
    clock.now += seconds - 0.01
    refusal(limits, caller)
    clock.now += 0.02
    limits.enter(caller)


def test_refusals_cost_nothing(limits, clock):
    caller = Caller("a", requests_per_minute=60.0, burst=1)
    limits.enter(caller).release()
    for _ in range(100):
        refusal(limits, caller)
    clock.now += 1.0
    assert entered(limits, caller, 2) == 1


def test_a_long_pause_saves_up_no_more_than_a_burst(limits, clock):
    caller = Caller("a", requests_per_minute=60.0, burst=3)
    entered(limits, caller, 3)
    clock.now += 1e9
    assert entered(limits, caller, 10) == 3


@given(
    per_minute=st.floats(0.1, 600.0),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0.0, 30.0), max_size=100),
)
def test_whenever_they_come_no_more_are_let_in_than_rate_and_burst_allow(per_minute, burst, pauses):
    clock = SetClock()
    limits = Limits(clock)
    caller = Caller("a", requests_per_minute=per_minute, burst=burst)
    began, let_in = clock.now, entered(limits, caller, 1)
    for pause in pauses:
        clock.now += pause
        let_in += entered(limits, caller, 3)
    assert let_in <= burst + (clock.now - began) * per_minute / 60.0 + 1e-6


def test_callers_do_not_share_their_limits(limits):
    first = Caller("a", requests_per_minute=1.0, concurrent=1)
    limits.enter(first)
    refusal(limits, first)
    assert entered(limits, Caller("b", requests_per_minute=1.0, concurrent=1), 2, end=False) == 1


def test_a_job_more_than_at_once_is_refused_until_one_ends(limits):
    caller = Caller("a", concurrent=2)
    leases = [limits.enter(caller), limits.enter(caller)]
    assert "may have 2" in str(refusal(limits, caller))
    leases[0].release()
    limits.enter(caller)
    refusal(limits, caller)


def test_releasing_twice_frees_one_place(limits):
    caller = Caller("a", concurrent=2)
    lease = limits.enter(caller)
    limits.enter(caller)
    lease.release()
    lease.release()
    assert entered(limits, caller, 2, end=False) == 1


def test_a_lease_ends_with_its_context_also_by_an_error(limits):
    caller = Caller("a", concurrent=1)
    with pytest.raises(KeyError), limits.enter(caller):
        raise KeyError
    assert entered(limits, caller, 2, end=False) == 1


def test_before_any_job_ended_the_time_to_wait_is_a_guess(limits, clock):
    caller = Caller("a", concurrent=1)
    limits.enter(caller)
    clock.now += 4.0
    assert refusal(limits, caller).retry_after_seconds == UNKNOWN_JOB_SECONDS - 4.0


def test_the_time_to_wait_follows_how_long_jobs_take(limits, clock):
    caller = Caller("a", concurrent=1)
    for _ in range(30):
        with limits.enter(caller):
            clock.now += 100.0
    limits.enter(caller)
    clock.now += 40.0
    assert refusal(limits, caller).retry_after_seconds == pytest.approx(60.0, abs=1.0)


def test_a_job_that_takes_longer_than_expected_is_asked_for_every_second(limits, clock):
    caller = Caller("a", concurrent=1)
    limits.enter(caller)
    clock.now += 1e6
    assert refusal(limits, caller).retry_after_seconds == 1.0


def test_a_refusal_for_jobs_at_once_uses_up_no_rate(limits):
    caller = Caller("a", requests_per_minute=2.0, concurrent=1)
    lease = limits.enter(caller)
    for _ in range(10):
        refusal(limits, caller)
    lease.release()
    assert entered(limits, caller, 2, end=False) == 1


def test_limits_that_change_with_the_keys_file_count_from_then_on(limits):
    assert entered(limits, Caller("a"), 500) == 500
    assert entered(limits, Caller("a", requests_per_minute=60.0, burst=1), 5) == 1
    assert entered(limits, Caller("a"), 500) == 500
