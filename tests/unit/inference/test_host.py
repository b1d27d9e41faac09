"""Components of one process share an engine, and take turns on its device."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from contracts.discovery import LoadState
from contracts.result import Status
from node.errors import JobStopped, SetupError
from node.inference import host as module
from node.inference import hub
from node.inference.checkpoint import Facts
from node.inference.host import EngineHost
from node.inference.traits import Preferences
from node.settings import Settings

PATIENCE_SECONDS = 20.0


class Engine:
    """Stands for the engine: nothing to load, and noticed when it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Hub:
    """Where models come from; counts how often."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.release = threading.Event()
        self.release.set()
        self.failure: Exception | None = None

    def fetch(self, spec: Any, _hub: Any, report: Any) -> Path:
        self.fetched.append(spec.name)
        report(LoadState(stage="downloading", model=spec.name))
        assert self.release.wait(PATIENCE_SECONDS)
        report(LoadState(stage="downloading", model=spec.name, files_done=1))
        if self.failure is not None:
            raise self.failure
        return Path(spec.name)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Hub:
    source = Hub()
    facts = Facts("FluxPipeline", None, 8, Preferences())
    monkeypatch.setattr(hub, "fetch_model", source.fetch)
    monkeypatch.setattr(module, "read_facts", lambda _: facts)
    monkeypatch.setattr(module, "_make_engine", lambda _: Engine())
    return source


@pytest.fixture
async def host(models: Hub) -> AsyncIterator[EngineHost]:
    host = EngineHost(Settings(model="org/first", models=["org/second"]))
    yield host
    models.release.set()
    if host._users:
        await host.leave()


def quiet(_: LoadState) -> None:
    pass


def never() -> None:
    return None


async def test_what_one_has_prepared_is_there_for_the_other(host: EngineHost, models: Hub) -> None:
    host.join()
    await asyncio.gather(host.prepare(quiet), host.prepare(quiet))
    engine = host.engine
    await host.prepare(quiet)
    assert models.fetched == ["org/first", "org/second"]
    assert host.engine is engine
    assert host.files["org/second"].folder == Path("org/second")
    await host.leave()


async def test_everyone_who_waits_is_told_how_far_it_is(host: EngineHost, models: Hub) -> None:
    first: list[LoadState] = []
    second: list[LoadState] = []
    models.release.clear()
    loading = asyncio.gather(host.prepare(first.append), host.prepare(second.append))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(host._listeners) < 2:  # noqa: ASYNC110 - both get there
            await asyncio.sleep(0)
    models.release.set()
    await loading
    assert [state.model for state in first] == ["org/first"] * 2 + ["org/second"] * 2
    # The second one may come when the first model is on its way.
    assert second in (first, first[1:])
    assert host._listeners == ()


async def test_one_that_failed_to_prepare_does_not_keep_the_other_from_it(
    host: EngineHost, models: Hub
) -> None:
    models.failure = SetupError("the hub does not answer")
    with pytest.raises(SetupError, match="does not answer"):
        await host.prepare(quiet)
    models.failure = None
    await host.prepare(quiet)
    assert host.engine is not None


async def test_the_last_one_that_leaves_closes_the_engine(host: EngineHost) -> None:
    host.join()
    await host.prepare(quiet)
    engine = host.engine
    await host.leave()
    assert engine.closed == 0
    assert await host.run(lambda: "still at work") == "still at work"
    await host.leave()
    assert engine.closed == 1
    with pytest.raises(RuntimeError, match="closed"):
        await host.run(lambda: "too late")


async def test_a_download_ends_once_nobody_needs_it(host: EngineHost, models: Hub) -> None:
    models.release.clear()
    preparing = asyncio.create_task(host.prepare(quiet))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not models.fetched:  # noqa: ASYNC110 - a thread gets there
            await asyncio.sleep(0.001)
    await host.leave()
    models.release.set()
    with pytest.raises(SetupError, match="stopped while it loaded"):
        await asyncio.wait_for(preparing, PATIENCE_SECONDS)
    assert models.fetched == ["org/first"]


async def test_turns_come_in_the_order_of_asking_and_one_at_a_time(host: EngineHost) -> None:
    order: list[str] = []

    async def work(name: str) -> None:
        async with host.turn(never):
            order.append(name)
            await asyncio.sleep(0)
            order.append(name)

    await asyncio.gather(*(work(name) for name in "abc"))
    assert order == list("aabbcc")


async def test_a_job_that_must_stop_does_not_wait_for_its_turn(host: EngineHost) -> None:
    async with host.turn(never):
        with pytest.raises(JobStopped) as raised:
            async with asyncio.timeout(PATIENCE_SECONDS), host.turn(lambda: Status.EXPIRED):
                pytest.fail("it had a turn")
        assert raised.value.status is Status.EXPIRED
    async with asyncio.timeout(PATIENCE_SECONDS), host.turn(never):
        pass


async def test_a_job_that_waits_is_asked_whether_it_must_stop_again_and_again(
    host: EngineHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TURN_SECONDS", 0.001)
    asked = asyncio.Semaphore(0)
    entered = asyncio.Event()

    def stop_requested() -> None:
        asked.release()

    async def work() -> None:
        async with host.turn(stop_requested):
            entered.set()

    async with host.turn(never):
        waiting = asyncio.create_task(work())
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(3):
                await asked.acquire()
        assert not entered.is_set()
    await asyncio.wait_for(waiting, PATIENCE_SECONDS)
    assert entered.is_set()


@pytest.mark.parametrize("failing", [True, False])
async def test_a_turn_ends_whatever_becomes_of_the_job(host: EngineHost, failing: bool) -> None:
    entered, forever = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with host.turn(never):
            entered.set()
            if failing:
                raise ValueError("boom")
            await forever.wait()

    running = asyncio.create_task(work())
    await entered.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    async with asyncio.timeout(PATIENCE_SECONDS), host.turn(never):
        pass


async def test_one_that_is_cancelled_as_its_turn_comes_passes_it_on(host: EngineHost) -> None:
    async def work() -> None:
        async with host.turn(never):
            pass

    turn = host.turn(never)
    await turn.__aenter__()
    waiting = asyncio.create_task(work())
    next_one = asyncio.create_task(work())
    for _ in range(5):
        await asyncio.sleep(0)
    await turn.__aexit__(None, None, None)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.wait_for(next_one, PATIENCE_SECONDS)
