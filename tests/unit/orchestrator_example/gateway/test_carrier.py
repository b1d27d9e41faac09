"""Whatever becomes of a job at the broker, it ends, and nothing of it is left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contracts.result import Status
from contracts.service import ServiceContract
from contracts.text2image import TEXT2IMAGE
from contracts.topology import service_topology
from node.errors import BrokerUnavailable, MessageTooLarge
from orchestrator_example.gateway import carrier as carrier_module
from orchestrator_example.gateway.carrier import Carrier
from orchestrator_example.gateway.errors import Busy, Crashed
from orchestrator_example.gateway.job import Job
from orchestrator_example.gateway.queues import Queues
from orchestrator_example.gateway.records import JobRecords
from tests.fakes import InMemoryBroker
from tests.harness import PATIENCE_SECONDS, until
from tests.unit.orchestrator_example.gateway.told import job

SERVICES = {TEXT2IMAGE: ServiceContract()}


class Setting:
    """A carrier, its broker, and what it wrote down."""

    def __init__(self, folder: Path) -> None:
        self.broker = InMemoryBroker()
        directory: Any = SimpleNamespace(services=list)
        self.queues = Queues(self.broker, directory)
        self.records = JobRecords(f"file://{folder}", SERVICES)
        self.carrier = Carrier(self.broker, SERVICES, self.queues, self.records)

    def carry(self, made: Job) -> asyncio.Task[None]:
        return asyncio.create_task(self.carrier.carry(made, nullcontext()))

    async def out(self, made: Job) -> None:
        await asyncio.wait_for(asyncio.shield(made.taken), PATIENCE_SECONDS)

    @property
    def client(self) -> Any:
        return self.carrier._clients[TEXT2IMAGE]

    def is_clean(self) -> bool:
        waiting = self.queues._waiting[TEXT2IMAGE].tickets
        return not (self.client._pending or self.client._settled or waiting)


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with AsyncExitStack() as stack:
        made = Setting(tmp_path)
        await made.broker.apply(service_topology(TEXT2IMAGE))
        await stack.enter_async_context(made.carrier.listening())
        yield made


async def test_a_job_whose_request_was_lost_for_good_fails_although_no_event_comes(
    setting: Setting,
) -> None:
    made = job("lost")
    carrying = setting.carry(made)
    await setting.out(made)
    # As when the broker comes back without the queue, and its client gives up.
    setting.client._give_up("lost", BrokerUnavailable("the queue is gone"))
    await asyncio.wait_for(carrying, PATIENCE_SECONDS)
    assert made.result is not None
    assert made.result.error is not None
    assert (made.result.status, made.result.error.detail) == (Status.FAILED, "the queue is gone")
    assert setting.is_clean()


async def test_a_job_that_nobody_answers_expires_after_its_deadline(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier_module, "LATE_SECONDS", 0.05)
    made = job("late", deadline=0.0)
    await asyncio.wait_for(setting.carrier.carry(made, nullcontext()), PATIENCE_SECONDS)
    assert made.result is not None
    assert made.result.status is Status.EXPIRED
    assert setting.is_clean()


async def test_a_refused_job_leaves_no_record(setting: Setting) -> None:
    setting.broker.outbox.faults.append(MessageTooLarge("16 MiB"))
    made = job("large", keeps_on=True)
    await setting.carrier.carry(made, nullcontext())
    with pytest.raises(MessageTooLarge):
        await made.taken
    assert await setting.records.find("large") is None
    assert setting.is_clean()


async def test_a_recorded_job_that_cannot_be_sent_now_keeps_its_record(setting: Setting) -> None:
    await setting.records.keep(job("recorded", keeps_on=True))
    found = await setting.records.find("recorded")
    assert found is not None
    setting.broker.outbox.faults.append(MessageTooLarge("for now"))
    await setting.carrier.carry(found, nullcontext())
    assert found.ended.is_set()
    assert await setting.records.find("recorded") is not None


async def test_a_gateway_that_stops_tells_those_who_wait(setting: Setting) -> None:
    made = job("waiting")
    carrying = setting.carry(made)
    await setting.out(made)
    carrying.cancel()
    await asyncio.gather(carrying, return_exceptions=True)
    assert isinstance(made.refusal, Busy)
    assert not made.was_refused
    assert setting.is_clean()


async def test_a_bug_is_told_as_such(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_down(_: Job) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(setting.queues, "join", break_down)
    made = job("unlucky")
    with pytest.raises(ZeroDivisionError):
        await setting.carrier.carry(made, nullcontext())
    assert isinstance(made.refusal, Crashed)
    with pytest.raises(Crashed):
        await made.taken


async def test_a_cancel_is_said_again_until_the_job_has_ended(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier_module, "CANCEL_AGAIN_SECONDS", 0.01)
    said: list[str] = []

    async def cancel(job_id: str) -> None:
        said.append(job_id)
        raise BrokerUnavailable("away")

    monkeypatch.setattr(setting.client, "cancel", cancel)
    made = job("unwanted", keeps_on=True)
    made.cancel_requested = True
    stopping = asyncio.create_task(setting.carrier.stop(made))
    await until(lambda: len(said) > 3, "it is said again")
    recorded = await setting.records.find("unwanted")
    assert recorded is not None
    assert recorded.cancel_requested
    made.ended.set()
    await asyncio.wait_for(stopping, PATIENCE_SECONDS)
