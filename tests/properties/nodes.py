"""A node on virtual time: what `node.app.Node` builds, without health endpoint and discovery."""

import asyncio
import json
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from unittest.mock import patch

from contracts.control import CancelRequest
from contracts.text2image import Text2ImageResult
from contracts.topology import CONTROL, DEAD_LETTER, RETRY, request_queues, unanswered_queue
from node.execution import Execution
from node.ports import OutgoingMessage, ResultStore, Subscribed
from node.settings import Settings
from node.stores.recent import RecentResults
from node.stores.results import FsspecResultStore
from node.stores.shared import SharedResults
from node.tasks import running
from node.telemetry.metrics import Metrics
from node.worker import Worker
from tests.fakes import Inject, InMemoryBroker, InMemoryInbox, InMemoryOutbox, InMemoryServer
from tests.properties.components import MODEL, Generations, ObedientComponent
from tests.properties.objects import InMemoryObjects
from tests.properties.scenarios import Scenario
from tests.properties.virtual_time import VirtualClock
from tests.properties.weather import Weather

SERVICE: Final = "text2image"
STALL_SECONDS: Final = 100.0
HEARTBEATS_SECONDS: Final = 12.0
"""After so long without a sign of life a broker drops a connection."""
LONGER_THAN_ANY_SCENARIO: Final = 1e6


@dataclass(frozen=True, slots=True)
class Ground:
    """What all nodes stand on: one broker, one store, one weather."""

    scenario: Scenario
    server: InMemoryServer
    weather: Weather
    generations: Generations
    objects: dict[str, bytes]


class WatchedOutbox(InMemoryOutbox):
    """Notes what a node begins to say about a job of which it holds no delivery."""

    def __init__(self, server: InMemoryServer, inject: Inject, inbox: InMemoryInbox) -> None:
        super().__init__(server, inject)
        self._inbox = inbox
        self.uncalled_for: list[str] = []

    async def publish(self, message: OutgoingMessage) -> None:
        if message.exchange in ("", RETRY, DEAD_LETTER):
            job_id = message.properties.message_id
            if message.properties.type == "text2image.result":
                job_id = json.loads(message.body)["job_id"]
            if not self._inbox.may_answer(job_id):
                self.uncalled_for.append(f"{message.exchange} {job_id}")
        await super().publish(message)


class NodeProcess:
    """One life of a node, from its start to its end or death."""

    mortal = True

    def __init__(self, name: str, ground: Ground) -> None:
        self.name = name
        self.dead = False
        self.died_at: float | None = None
        self.leaving = False
        self._killed = False
        self._frozen_until = 0.0
        self.started_at = asyncio.get_running_loop().time()
        self.heard_cancels: dict[str, float] = {}
        inject = partial(ground.weather.at, self)
        self._broker = InMemoryBroker(ground.server, inject)
        self._component = ObedientComponent(self, ground.generations)
        self._clock = VirtualClock()
        self._settings = Settings(
            slots=ground.scenario.slots,
            look_ahead=ground.scenario.look_ahead,
            stall_seconds=STALL_SECONDS,
            result_seconds=LONGER_THAN_ANY_SCENARIO,
            recent_results=ground.scenario.memory if ground.scenario.shared else 1_000,
        )
        self._store = self._shared_store(ground, inject) if ground.scenario.shared else None
        self.worker = self._make_worker(ground, inject)
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=name)

    def _make_worker(self, ground: Ground, inject: Inject) -> Worker:
        settings, metrics = self._settings, Metrics()
        queues = (*request_queues(SERVICE, [MODEL]), unanswered_queue(SERVICE))
        self._inbox = self._broker.inbox(queues, settings.slots + settings.look_ahead)
        self._control = self._broker.subscription([Subscribed(CONTROL)])
        self.outbox = WatchedOutbox(ground.server, inject, self._inbox)
        recent = RecentResults(
            settings.recent_results,
            settings.recent_results_bytes,
            settings.result_seconds,
            self._clock,
        )
        self._results: ResultStore = recent
        if self._store is not None:
            self._results = SharedResults(recent, self._store, monotonic=self._clock.monotonic)
        execution = Execution(
            self._component,
            settings=settings,
            instance_id=self.name,
            clock=self._clock,
            metrics=metrics,
            store=None,
        )
        return Worker(
            self._component,
            self._inbox,
            self.outbox,
            self._results,
            execution,
            settings=settings,
            clock=self._clock,
            metrics=metrics,
        )

    def _shared_store(self, ground: Ground, inject: Any) -> FsspecResultStore:
        objects = InMemoryObjects(ground.objects, inject)
        with patch("node.stores.results.Objects", lambda *_: objects):
            monotonic = self._clock.monotonic
            return FsspecResultStore("shared", self.name, Text2ImageResult, monotonic=monotonic)

    async def _run(self) -> None:
        try:
            async with running(
                inbox=self._inbox.run(), results=self._results.run(), control=self._obey()
            ):
                await self._serve()
        finally:
            self.dead = True
            self.died_at = self.died_at or self._clock.monotonic()

    async def _serve(self) -> None:
        worker = asyncio.create_task(self.worker.run())
        stopped = asyncio.create_task(self._stopping.wait())
        unfit = asyncio.create_task(self.worker.unfit.wait())
        try:
            await asyncio.wait({worker, stopped, unfit}, return_when=asyncio.FIRST_COMPLETED)
            if not worker.done():
                self.leaving = True
                await self.worker.drain(self._grace_seconds if self._stopping.is_set() else 0.0)
            await worker
        finally:
            for task in (worker, stopped, unfit):
                task.cancel()
            await asyncio.gather(worker, stopped, unfit, return_exceptions=True)

    async def _obey(self) -> None:
        async with running(control=self._control.run()):
            async for message in self._control:
                command = CancelRequest.model_validate_json(message.body)
                self.heard_cancels.setdefault(command.job_id, self._clock.monotonic())
                self.worker.cancel(command.job_id)

    def kill(self) -> None:
        """End as SIGKILL ends a process."""
        if not self.dead:
            self.dead = True
            self.died_at = self._clock.monotonic()
            self._broker.die()
            # The end of its tasks takes turns of the loop, in which it must not start others.
            crew: Any = self.worker._tasks
            crew.start = crew.spawn = _never_run
            self._killed = True
            asyncio.get_running_loop().call_soon(self._task.cancel)

    def stop(self, grace_seconds: float) -> None:
        """Drain, as SIGTERM does; called again: without waiting for running jobs."""
        if self._stopping.is_set() or self.leaving:
            self.worker.hand_back()
            return
        self._grace_seconds = grace_seconds
        self.leaving = True
        self._stopping.set()

    def freeze(self, seconds: float) -> None:
        """Do nothing for a while, as between SIGSTOP and SIGCONT."""
        self._frozen_until = max(self._frozen_until, self._clock.monotonic() + seconds)
        if seconds > HEARTBEATS_SECONDS:
            self._broker.interrupt(seconds)

    async def thawed(self) -> None:
        """Wait until the process may go on."""
        while (left := self._frozen_until - self._clock.monotonic()) > 0:  # noqa: ASYNC110 - time
            await asyncio.sleep(left)

    def interrupt(self, seconds: float) -> None:
        """Lose every connection for a while."""
        self._broker.interrupt(seconds)

    async def ended(self) -> None:
        """Wait for the end. Raises what the node ended with."""
        with suppress(asyncio.CancelledError):
            await asyncio.shield(self._task)

    @property
    def crash(self) -> BaseException | None:
        """What the node ended with, when that was not asked for."""
        if self._killed or not self._task.done() or self._task.cancelled():
            return None
        return self._task.exception()

    def left_over(self) -> dict[str, Any]:
        """Say what a node that has nothing to do still holds."""
        worker = self.worker
        held = {
            "unanswered": self._inbox.unanswered(),
            "ledger": list(worker._ledger._jobs),
            "live": list(worker._live),
            "running": list(worker._running),
            "claims": list(self._store._claims._held) if self._store is not None else [],
            "tasks": max(0, len(worker._tasks._tasks) - self._settings.slots),
        }
        return {name: what for name, what in held.items() if what}


def _never_run(coroutine: Coroutine[Any, Any, Any]) -> None:
    coroutine.close()
