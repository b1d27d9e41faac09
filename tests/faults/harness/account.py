"""The books of a scenario: what was asked for, what came back, and how often."""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar, Final, Self
from uuid import uuid4

import aio_pika
from pydantic import ValidationError

from contracts.message import Message
from contracts.result import JobResult, Status
from contracts.text2image import Text2ImageResult
from contracts.topology import results_queue
from node.amqp.translation import from_aio_pika
from node.client import KEPT_RESULTS, Client
from node.errors import JobNotSucceeded, NodeError
from node.ports import IncomingMessage
from tests.faults.harness.entry import Entry, ending, is_right
from tests.faults.harness.fleet import Fleet
from tests.faults.harness.paced import paced
from tests.faults.harness.report import Report
from tests.faults.harness.tapped import TappedBroker
from tests.faults.harness.waiting import PATIENCE_SECONDS, until
from tests.harness import SERVICE, Caller

QUIET_SECONDS: Final = 0.6
"""How long after the last result a second copy may still be on its way."""


class Account:
    """Submits jobs through a real client, and as a stranger with raw messages; keeps count.

    An end is `succeeded`, `cancelled`, `expired`, or the code of a failure. Subclasses keep the
    books of another service.
    """

    service: ClassVar[str] = SERVICE
    result_model: ClassVar[type[JobResult]] = Text2ImageResult

    def __init__(self, urls: Sequence[str], fleet: Fleet, scenario: str) -> None:
        self.fleet = fleet
        self.entries: dict[str, Entry] = {}
        self._urls = urls
        self._scenario = scenario
        self._opened_at = time.monotonic()
        self._results: list[float] = []
        self._marks: list[tuple[str, float]] = []
        self._noted: list[tuple[str, float]] = []
        self._strays: list[str] = []
        self.broker = TappedBroker(urls, self._hear)
        self.client = Client(self.broker, self.service, self.result_model)
        self.caller = Caller(self.broker)

    @classmethod
    @asynccontextmanager
    async def open(cls, urls: Sequence[str], fleet: Fleet, scenario: str) -> AsyncIterator[Self]:
        """Keep an account inside the context."""
        async with AsyncExitStack() as stack:
            account = cls(urls, fleet, scenario)
            await stack.enter_async_context(account.broker.running())
            await stack.enter_async_context(account.client.running())
            await stack.enter_async_context(account.caller.listening())
            stack.push_async_callback(account._stop_waiting)
            yield account

    async def submit(
        self,
        request: Message | None = None,
        *,
        job_id: str | None = None,
        ends: Iterable[str] = ("succeeded",),
        **options: Any,
    ) -> str:
        """Submit through the client; its errors are recorded and raised."""
        request = request or self.plain()
        entry = self._enter(job_id or uuid4().hex, request, ends)
        await self.client.submit(request, job_id=entry.job_id, **options)
        entry.confirmed = True
        if entry.waiting is None or entry.waiting.done():
            entry.asked += 1
            entry.waiting = asyncio.create_task(self._await_result(entry))
        return entry.job_id

    async def submit_many(self, count: int, **given: Any) -> list[str]:
        """Submit so many requests, each with a seed of its own; `given` is for `paced`."""
        return [await self.submit(paced(seed=seed, **given)) for seed in range(count)]

    async def submit_raw(
        self,
        request: Message | None = None,
        *,
        job_id: str | None = None,
        ends: Iterable[str] = ("succeeded",),
        **properties: Any,
    ) -> str:
        """Publish as any AMQP client would; there is nobody who drops second copies.

        `properties` are those of `tests.harness.Caller.publish`; with `answered=False` the
        result goes to the queue of kept results.
        """
        request = request or self.plain()
        entry = self._enter(job_id or uuid4().hex, request, ends)
        entry.raw = True
        entry.asked += 1
        body = json.loads(request.to_json())
        await self.caller.publish(body, message_id=entry.job_id, **properties)
        entry.confirmed = True
        return entry.job_id

    async def cancel(self, job_id: str) -> None:
        """Broadcast a cancel."""
        await self.client.cancel(job_id)

    async def result(self, job_id: str, patience_seconds: float = PATIENCE_SECONDS) -> Any:
        """Wait until a caller sees the result of a job, whatever it is."""
        entry = self.entries[job_id]
        await until(
            lambda: self._seen(entry), f"{job_id} has a result", patience_seconds=patience_seconds
        )
        return self._seen(entry)[0]

    async def copies(self, job_id: str, count: int) -> list[Any]:
        """Wait until so many copies of a job's result arrived."""
        entry = self.entries[job_id]
        await until(lambda: len(entry.copies) >= count, f"{job_id} has {count} copies")
        return entry.copies

    def injected(self, fault: str) -> None:
        """Note that a fault begins now; the time to the next result is its recovery."""
        self._marks.append((f"{fault}, from its injection", time.monotonic()))

    def healed(self, fault: str) -> None:
        """Note that a fault ends now; the time to the next result is its recovery."""
        self._marks.append((f"{fault}, from its end", time.monotonic()))

    def noted(self, fault: str, seconds: float) -> None:
        """Note a recovery time that the scenario measured itself."""
        self._noted.append((fault, seconds))

    async def settled(self, patience_seconds: float = PATIENCE_SECONDS) -> Report:
        """Wait for every result, and a while for second copies; return and write the report."""
        deadline = time.monotonic() + patience_seconds
        while (missing := self._missing()) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            if any(entry.raw for entry in missing):
                await self._read_kept()
        await until(self._quiet, "nothing more arrives")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await self._read_kept():  # noqa: ASYNC110 - asking is the work
                await asyncio.sleep(0.1)
        report = self._report(await self._seen_otherwise())
        report.write()
        return report

    def plain(self) -> Message:
        """Make the request of a scenario that says nothing about it."""
        return paced()

    def jobs(self, begun: Iterable[str]) -> Iterable[str]:
        """Name the jobs whose generations are counted; `begun` are those that nodes began."""
        return self.entries

    def is_right(self, entry: Entry, result: Any) -> bool:
        """Say whether a result is what its request asks for."""
        return is_right(entry, result)

    def wrong_work(self) -> list[str]:
        """Say in words what nodes did that they must not do."""
        return []

    def _quiet(self) -> bool:
        return time.monotonic() > max(self._results, default=0.0) + QUIET_SECONDS

    def _missing(self) -> list[Entry]:
        return [each for each in self.entries.values() if each.confirmed and not self._seen(each)]

    def _enter(self, job_id: str, request: Message, ends: Iterable[str]) -> Entry:
        entry = Entry(job_id, request, frozenset(ends))
        return self.entries.setdefault(job_id, entry)

    async def _await_result(self, entry: Entry) -> None:
        if (result := await self._result_of(entry)) is not None:
            entry.visible.append(result)

    async def _result_of(self, entry: Entry) -> JobResult | None:
        """Return what a caller sees; nothing when the client gave up, or forgot the job."""
        try:
            result: JobResult = await self.client.result(entry.job_id)
        except JobNotSucceeded as error:
            result = error.result
        except (NodeError, KeyError) as error:
            self._strays.append(f"no result of {entry.job_id}: {error!r}")
            return None
        return result

    def _hear(self, message: IncomingMessage) -> None:
        """Take in whatever arrives on a queue of ours."""
        if message.properties.type != f"{self.service}.result":
            return
        try:
            result = self.result_model.model_validate_json(message.body)
        except ValidationError as error:
            self._strays.append(f"unreadable result: {error}")
            return
        self._results.append(time.monotonic())
        entry = self.entries.get(result.job_id)
        if entry is None:
            self._strays.append(f"a result of an unknown job {result.job_id}")
            return
        entry.copies.append(result)

    def _seen(self, entry: Entry) -> list[JobResult]:
        return entry.copies[:1] if entry.raw else entry.visible

    async def _read_kept(self) -> bool:
        """Empty the queue of kept results: those of callers who are gone, or gave no queue.

        Returns False when the broker is away, or its queues are not back yet.
        """
        for url in self._urls:
            try:
                await self._read_kept_from(url)
            except (OSError, TimeoutError, aio_pika.exceptions.AMQPError):
                continue  # the next host of a cluster may be there
            return True
        return False

    async def _read_kept_from(self, url: str) -> None:
        connection = await aio_pika.connect(url)
        async with connection, connection.channel() as channel:
            queue = await channel.get_queue(results_queue(self.service), ensure=False)
            while (message := await queue.get(no_ack=True, fail=False)) is not None:
                self._hear(from_aio_pika(message))

    async def _seen_otherwise(self) -> list[str]:
        """Ask for the latest results again: a caller who looks twice must see the same."""
        answered = [entry for entry in self.entries.values() if entry.visible]
        # A client keeps so many; half of them, since jobs end in another order than they began.
        latest = answered[-KEPT_RESULTS // 2 :]
        return [e.job_id for e in latest if await self._result_of(e) != e.visible[-1]]

    async def _stop_waiting(self) -> None:
        tasks = [entry.waiting for entry in self.entries.values() if entry.waiting is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _report(self, otherwise: list[str]) -> Report:
        confirmed = [entry for entry in self.entries.values() if entry.confirmed]
        lost = [entry.job_id for entry in confirmed if not self._seen(entry)]
        twice = {each.job_id for each in confirmed if len(each.visible) > each.asked}
        twice.update(otherwise)
        unexpected = [*self._strays, *self.fleet.crashes(), *self.wrong_work()]
        unexpected += [why for entry in self.entries.values() for why in self._wrong(entry)]
        ends = Counter(self._seen(each)[0].status for each in confirmed if self._seen(each))
        begun = Counter(g.job_id for g in self.fleet.generations() if g.what == "started")
        unconfirmed = [entry for entry in self.entries.values() if not entry.confirmed]
        return Report(
            scenario=self._scenario,
            attempted=len(self.entries),
            confirmed=len(confirmed),
            succeeded=ends[Status.SUCCEEDED],
            failed_as_asked=ends[Status.FAILED],
            cancelled=ends[Status.CANCELLED],
            expired=ends[Status.EXPIRED],
            lost=len(lost),
            visible_twice=len(twice),
            second_copies=sum(max(len(e.copies) - e.asked, 0) for e in confirmed),
            recovered=sum(1 for e in unconfirmed if e.copies or begun[e.job_id]),
            unexpected=len(unexpected),
            generations_per_job=dict(sorted(Counter(begun[j] for j in self.jobs(begun)).items())),
            recovery_seconds=self._recoveries(),
            seconds=round(time.monotonic() - self._opened_at, 2),
            problems=(
                *(f"lost: {job_id}" for job_id in lost),
                *(f"visible twice: {job_id}" for job_id in twice),
                *(f"unexpected: {why}" for why in unexpected),
            ),
        )

    def _wrong(self, entry: Entry) -> list[str]:
        wrong = []
        for result in entry.copies:
            if ending(result) not in entry.ends:
                wrong.append(f"{entry.job_id} ended as {ending(result)}: {result.error}")
            elif result.status is Status.SUCCEEDED and not self.is_right(entry, result):
                wrong.append(f"{entry.job_id} has another answer than its request asks for")
        if len({ending(result) for result in entry.copies}) > 1:
            wrong.append(f"{entry.job_id} ended in {[ending(result) for result in entry.copies]}")
        return wrong

    def _recoveries(self) -> dict[str, list[float]]:
        recoveries: dict[str, list[float]] = defaultdict(list)
        for fault, seconds in self._noted:
            recoveries[fault].append(round(seconds, 2))
        for fault, marked_at in self._marks:
            if later := [at for at in self._results if at > marked_at]:
                recoveries[fault].append(round(min(later) - marked_at, 2))
        return dict(recoveries)
