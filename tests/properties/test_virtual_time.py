"""Waiting takes no time, and a wait that would never end is an error."""

import asyncio
import time

import pytest

from tests.properties.virtual_time import EPOCH, NeverRests, NothingLeftToDo, VirtualClock, run


def test_a_day_of_waiting_takes_less_than_a_second() -> None:
    async def wait() -> tuple[float, float]:
        await asyncio.sleep(86_400.0)
        return VirtualClock().monotonic(), VirtualClock().time()

    began = time.monotonic()
    monotonic, unix = run(wait())
    assert monotonic == pytest.approx(86_400.0)
    assert unix == pytest.approx(EPOCH + 86_400.0)
    assert time.monotonic() - began < 1.0


def test_timers_fire_in_the_order_of_their_times() -> None:
    async def collect() -> list[str]:
        happened: list[str] = []
        loop = asyncio.get_running_loop()
        for name, delay in (("last", 120.0), ("first", 0.2), ("second", 5.0)):
            loop.call_later(delay, happened.append, name)
        await asyncio.sleep(121.0)
        return happened

    assert run(collect()) == ["first", "second", "last"]


def test_a_bound_on_a_wait_is_kept() -> None:
    async def wait() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 30.0)
        return VirtualClock().monotonic()

    assert run(wait()) == pytest.approx(30.0)


def test_a_wait_for_nothing_is_an_error() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(NothingLeftToDo):
        run(wait())


def test_going_round_in_circles_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.properties.virtual_time.MAX_TURNS", 1_000)

    async def circle() -> None:
        while True:  # noqa: ASYNC110 - that is the fault
            await asyncio.sleep(0)

    with pytest.raises(NeverRests):
        run(circle())
