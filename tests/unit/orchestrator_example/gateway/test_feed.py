"""The events of a job, for readers who come late, come back, or are slow."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from contracts.events import JobEvent
from orchestrator_example.gateway import feed as feed_module
from orchestrator_example.gateway.feed import JobFeed, Numbered
from tests.unit.orchestrator_example.gateway.told import (
    ACCEPTED,
    IMAGE,
    STARTED,
    preview,
    progress,
    stage,
)


async def everything(feed: JobFeed, after: int = 0) -> list[Numbered]:
    feed.close()
    return [each async for each in feed.follow(after)]


def fed(*events: JobEvent) -> JobFeed:
    feed = JobFeed()
    for event in events:
        feed.add(event)
    return feed


async def test_who_comes_late_hears_everything_in_order() -> None:
    told = await everything(fed(ACCEPTED, STARTED, IMAGE))
    assert told == [Numbered(1, ACCEPTED), Numbered(2, STARTED), Numbered(3, IMAGE)]


async def test_who_comes_back_hears_what_came_since() -> None:
    assert await everything(fed(ACCEPTED, STARTED, IMAGE), after=2) == [Numbered(3, IMAGE)]


async def test_of_progress_the_latest_alone_is_kept() -> None:
    told = await everything(fed(ACCEPTED, progress(1), preview(), progress(2)))
    assert [each.number for each in told] == [1, 3, 4]


async def test_stages_have_their_own_progress() -> None:
    feed = fed(stage("one", progress(1)), stage("two", progress(1)), stage("one", progress(2)))
    assert [each.number for each in await everything(feed)] == [2, 3]


async def test_a_reader_who_is_not_reading_makes_nobody_wait_and_skips_what_is_out_of_date() -> (
    None
):
    feed = fed(progress(1))
    slow, fast = feed.follow(), feed.follow()
    assert (await anext(slow)).number == (await anext(fast)).number == 1
    for step in (2, 3, 4):
        feed.add(progress(step))
        assert (await anext(fast)).number == step
    assert (await anext(slow)).number == 4
    for reader in (slow, fast):
        await _over(reader, feed)


async def _over(reader: AsyncIterator[Numbered], feed: JobFeed) -> None:
    feed.close()
    assert [each async for each in reader] == []


async def test_a_reader_waits_for_the_next_event_and_ends_with_the_job() -> None:
    feed = JobFeed()
    reader = feed.follow()
    waiting = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0)
    assert not waiting.done()
    feed.add(ACCEPTED)
    assert await waiting == Numbered(1, ACCEPTED)
    await _over(reader, feed)


async def test_what_is_kept_is_bounded_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "MAX_EVENTS", 3)
    told = await everything(fed(*[ACCEPTED] * 5))
    assert [each.number for each in told] == [3, 4, 5]


async def test_what_is_kept_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "MAX_BYTES", 10)
    feed = fed(preview("x" * 6), stage("one", preview("y" * 6)), STARTED)
    assert feed.num_bytes == 6
    assert [each.number for each in await everything(feed)] == [2, 3]


def test_a_mark_says_after_which_event_to_go_on() -> None:
    feed = JobFeed()
    assert feed.after(feed.mark(7)) == 7


@pytest.mark.parametrize("mark", ["", "7", "-", "x-7", "-7", "{}-seven", "{}-", "{}-1e9", "{}-٣"])
def test_a_mark_of_another_gateway_or_of_nobody_is_before_everything(mark: str) -> None:
    feed = JobFeed()
    name = feed.mark(1).partition("-")[0]
    assert feed.after(mark.format(name)) == 0
    assert feed.after(JobFeed().mark(7)) == 0
    assert feed.after(f"{name}-{'9' * 5000}") == 0


def test_it_is_over_once_the_last_event_was_read_and_none_can_come() -> None:
    feed = fed(ACCEPTED, STARTED)
    assert not feed.is_over(2)
    feed.close()
    assert feed.is_over(2)
    assert not feed.is_over(1)
