"""Whatever comes in, it is answered and complained about at a bounded rate."""

from hypothesis import given
from hypothesis import strategies as st

from node.discovery.restraint import Allowance


def test_so_many_at_once_and_no_more() -> None:
    allowance = Allowance(at_once=3, a_second=1.0)
    assert [allowance.take(0.0) for _ in range(5)] == [True] * 3 + [False] * 2


def test_time_earns_more() -> None:
    allowance = Allowance(at_once=1, a_second=0.5)
    assert [allowance.take(now) for now in (0.0, 1.9, 2.0, 2.1)] == [True, False, True, False]


def test_a_long_rest_earns_no_more_than_at_once() -> None:
    allowance = Allowance(at_once=2, a_second=10.0)
    allowance.take(0.0)
    assert [allowance.take(3600.0) for _ in range(3)] == [True, True, False]


def test_it_says_how_much_it_held_back_since_it_was_asked_last() -> None:
    allowance = Allowance(at_once=1, a_second=1.0)
    for _ in range(5):
        allowance.take(0.0)
    assert (allowance.held_back(), allowance.held_back()) == (4, 0)


@given(st.lists(st.floats(0.0, 0.5), max_size=200), st.integers(1, 20), st.floats(0.01, 10.0))
def test_it_never_lets_through_more_than_the_rate(
    pauses: list[float], at_once: int, a_second: float
) -> None:
    allowance, now, taken = Allowance(at_once, a_second), 0.0, 0
    for pause in pauses:
        now += pause
        taken += allowance.take(now)
    assert taken <= at_once + now * a_second + 1e-6
