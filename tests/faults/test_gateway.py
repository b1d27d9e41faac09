"""Gateways die, start again, share a store; the broker dies under callers who wait."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.harness.broker import FaultyBroker
from tests.faults.harness.gateways import GatewayFleet, GatewayNode
from tests.faults.harness.http_account import HttpAccount, address_of
from tests.faults.harness.paced import paced
from tests.faults.harness.report import assert_nothing_lost
from tests.faults.harness.waiting import until
from tests.gateways import HttpCaller

OPEA = "/v1/text2image"
LONG_STEPS = 100
"""Two seconds of work: time enough to interfere."""


@pytest.fixture
def gateway_fleet(broker: FaultyBroker, tmp_path: Path) -> Iterator[GatewayFleet]:
    """Nodes that share their results, and gateways that share their jobs."""
    with GatewayFleet([broker.url], tmp_path) as fleet:
        yield fleet


@pytest.fixture
def books(gateway_fleet: GatewayFleet, request: pytest.FixtureRequest) -> HttpAccount:
    return HttpAccount(gateway_fleet, request.node.name)


@pytest.fixture
async def callers() -> AsyncIterator[AsyncExitStack]:
    """Keeps callers open until the end."""
    async with AsyncExitStack() as stack:
        yield stack


def body(**given: Any) -> dict[str, Any]:
    return paced(**given).model_dump(mode="json")


async def asking(caller: HttpCaller, **given: Any) -> asyncio.Task[httpx.Response]:
    """Begin a call that waits for its pictures."""
    return asyncio.create_task(caller.http.post(OPEA, json=body(**given)))


async def calls_taken(gateway: GatewayNode, caller: HttpCaller, count: int) -> None:
    """Wait until so many jobs are on their way."""
    async with asyncio.timeout(20):
        while len((await caller.http.get("/v1/jobs")).json()["jobs"]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert gateway.exit_code is None


async def test_jobs_survive_the_death_of_their_gateway(
    gateway_fleet: GatewayFleet, books: HttpAccount, callers: AsyncExitStack
) -> None:
    await gateway_fleet.start("one", result_store=gateway_fleet.store)
    gateway = await gateway_fleet.gateway()
    caller = await callers.enter_async_context(gateway.caller())
    done = await books.submit(caller)
    await caller.ended(address_of(done))
    jobs = await books.submit_many(caller, 4, steps=50)
    waiting = await books.submit(caller, paced("with a key"), key="mine")
    await gateway_fleet.begun(jobs[0])
    gateway.kill()
    again = await gateway_fleet.start_again(gateway)
    caller = await callers.enter_async_context(again.caller())
    assert await books.submit(caller, paced("with a key"), key="mine") == waiting
    report = await books.settled(caller)
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 6}


async def test_jobs_that_are_done_while_no_gateway_lives_are_found_done(
    gateway_fleet: GatewayFleet, books: HttpAccount, callers: AsyncExitStack
) -> None:
    await gateway_fleet.start("one", result_store=gateway_fleet.store)
    gateway = await gateway_fleet.gateway()
    caller = await callers.enter_async_context(gateway.caller())
    in_time = await books.submit(caller, paced(seed=1), deadline_seconds=3.0)
    jobs = [in_time, *await books.submit_many(caller, 2)]
    gateway.kill()
    for job in jobs:
        await until(lambda job=job: gateway_fleet.generated(job, "finished"), f"{job} is done")
    ends_at = gateway_fleet.generations()[0].time + 3.5
    await until(lambda: time.time() > ends_at, "the deadline is over")
    again = await gateway_fleet.start_again(gateway)
    caller = await callers.enter_async_context(again.caller())
    report = await books.settled(caller)
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 3}


async def test_a_job_that_was_to_be_cancelled_is_not_done_after_the_death_of_its_gateway(
    gateway_fleet: GatewayFleet,
    books: HttpAccount,
    callers: AsyncExitStack,
) -> None:
    node = await gateway_fleet.start("one")
    node.stop()
    assert await node.ended() == 0
    gateway = await gateway_fleet.gateway()
    caller = await callers.enter_async_context(gateway.caller())
    job = await books.submit(caller, paced(steps=1000), ends="cancelled")
    assert (await caller.http.delete(address_of(job))).status_code == 202
    await gateway.logged("job.cancel_not_heard", job_id=job)
    gateway.kill()
    again = await gateway_fleet.start_again(gateway)
    caller = await callers.enter_async_context(again.caller())
    assert (await caller.job(address_of(job)))["cancel_requested"]
    await gateway_fleet.start("two")
    assert_nothing_lost(await books.settled(caller))
    assert gateway_fleet.generated(job, "finished") == 0


async def test_a_reader_of_events_comes_back_to_another_gateway_and_hears_the_end(
    gateway_fleet: GatewayFleet, books: HttpAccount, callers: AsyncExitStack
) -> None:
    await gateway_fleet.start("one", result_store=gateway_fleet.store)
    gateway = await gateway_fleet.gateway()
    caller = await callers.enter_async_context(gateway.caller())
    job = await books.submit(caller, paced(steps=LONG_STEPS))
    async with caller.events(address_of(job)) as events:
        last = await anext(events)
        gateway.kill()
        with suppress(httpx.HTTPError):
            async for last in events:
                assert last.event != "succeeded"
    again = await gateway_fleet.start_again(gateway)
    caller = await callers.enter_async_context(again.caller())
    told = await caller.all_events(address_of(job), last.id)
    assert told[-1].event == "succeeded"
    assert_nothing_lost(await books.settled(caller))


async def test_a_job_of_one_gateway_is_found_at_the_other(
    gateway_fleet: GatewayFleet, books: HttpAccount, callers: AsyncExitStack
) -> None:
    await gateway_fleet.start("one", result_store=gateway_fleet.store)
    here, there = [await gateway_fleet.gateway(name) for name in ("here", "there")]
    mine = await callers.enter_async_context(here.caller())
    other = await callers.enter_async_context(there.caller())
    jobs = await books.submit_many(mine, 2, steps=50)
    keyed = [
        await books.submit(each, paced("with a key"), key="shared") for each in (mine, other, mine)
    ]
    assert len(set(keyed)) == 1
    assert (await other.job(address_of(jobs[1])))["status"] in {"queued", "running"}
    report = await books.settled(mine, other)
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 3}
    cancelled = await books.submit(mine, paced(steps=1000), ends="cancelled")
    await gateway_fleet.begun(cancelled)
    assert (await other.http.delete(address_of(cancelled))).status_code == 202
    assert_nothing_lost(await books.settled(mine, other))


async def test_those_who_wait_get_their_answers_although_the_broker_dies(
    broker: FaultyBroker,
    gateway_fleet: GatewayFleet,
    books: HttpAccount,
    callers: AsyncExitStack,
) -> None:
    await gateway_fleet.start("one")
    gateway = await gateway_fleet.gateway()
    caller = await callers.enter_async_context(gateway.caller())
    watched = await books.submit_many(caller, 3, steps=50)
    readers = [asyncio.create_task(_all_events(caller, job)) for job in watched]
    calls = [await asking(caller, seed=seed, steps=50) for seed in range(5)]
    await calls_taken(gateway, caller, 8)
    await gateway_fleet.begun(watched[0])
    await broker.kill()
    await gateway.logged("connection.lost")
    assert (await caller.http.get("/health")).status_code == 200
    assert (await caller.http.get("/health/ready")).status_code == 503
    await broker.start()
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*calls)
        told = await asyncio.gather(*readers)
    assert [each.status_code for each in answers] == [200] * 5
    assert [each[-1].event for each in told] == ["succeeded"] * 3
    assert_nothing_lost(await books.settled(caller))


async def _all_events(caller: HttpCaller, job: str) -> list[Any]:
    async with caller.events(address_of(job)) as events:
        return [each async for each in events]


async def test_while_the_broker_is_away_nobody_hangs(
    broker: FaultyBroker, gateway_fleet: GatewayFleet, callers: AsyncExitStack
) -> None:
    await gateway_fleet.start("one")
    gateway = await gateway_fleet.gateway()
    caller = await callers.enter_async_context(gateway.caller())
    await broker.kill()
    await gateway.logged("connection.lost")
    async with asyncio.timeout(30):
        answers = await asyncio.gather(
            *(caller.http.post(OPEA, json=body(seed=seed)) for seed in range(20)),
            *(caller.submit(body(seed=seed)) for seed in range(20)),
        )
    assert {each.status_code for each in answers} == {503}
    assert all(int(each.headers["retry-after"]) >= 1 for each in answers)
    assert {each.json()["code"] for each in answers} == {"broker_unavailable"}
    await broker.start()
    again = await caller.http.post(OPEA, json=body())
    assert again.status_code in {200, 503}


async def test_a_call_that_was_refused_is_not_done_once_the_broker_takes_messages_again(
    broker: FaultyBroker,
    gateway_fleet: GatewayFleet,
    books: HttpAccount,
    callers: AsyncExitStack,
) -> None:
    node = await gateway_fleet.start("one")
    gateway = await gateway_fleet.gateway()
    caller = await callers.enter_async_context(gateway.caller())
    await books.submit(caller)
    await books.settled(caller)
    await broker.alarm(True)
    refused = await caller.http.post(OPEA, json=body(seed=7, steps=1000))
    assert (refused.status_code, refused.json()["code"]) == (503, "broker_unavailable")
    await broker.alarm(False)
    await books.submit(caller)
    assert_nothing_lost(await books.settled(caller))
    assert node.log("job.cancel_requested")
    assert {each.job_id for each in gateway_fleet.generations() if each.what == "finished"} == set(
        books.entries
    )


async def test_a_gateway_that_is_told_to_stop_answers_those_who_wait(
    gateway_fleet: GatewayFleet, books: HttpAccount, callers: AsyncExitStack
) -> None:
    await gateway_fleet.start("one", result_store=gateway_fleet.store)
    gateway = await gateway_fleet.gateway(grace_seconds="4")
    caller = await callers.enter_async_context(gateway.caller())
    short = [await asking(caller, seed=seed, steps=20) for seed in range(2)]
    await calls_taken(gateway, caller, 2)
    long = [await asking(caller, seed=seed, steps=1000) for seed in range(2)]
    watched = await books.submit(caller, paced(steps=20))
    await calls_taken(gateway, caller, 5)
    async with caller.events(address_of(watched)) as events, asyncio.timeout(20):
        gateway.stop()
        kinds = [each.event async for each in events]
    assert "succeeded" not in kinds
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*short, *long)
    assert [each.status_code for each in answers] == [200, 200, 503, 503]
    assert all(int(each.headers["retry-after"]) >= 1 for each in answers[2:])
    assert await gateway.ended(10) == 0
    assert [line for line in gateway.log() if line["level"] in {"error", "critical"}] == []


async def test_a_second_signal_ends_a_gateway_at_once(
    gateway_fleet: GatewayFleet, callers: AsyncExitStack
) -> None:
    await gateway_fleet.start("one")
    gateway = await gateway_fleet.gateway(grace_seconds="60")
    caller = await callers.enter_async_context(gateway.caller())
    call = await asking(caller, steps=1000)
    await calls_taken(gateway, caller, 1)
    gateway.stop()
    await gateway.logged("gateway.stopping")
    gateway.stop()
    assert await gateway.ended(10) == 0
    await asyncio.gather(call, return_exceptions=True)
