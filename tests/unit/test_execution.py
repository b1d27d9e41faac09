"""Whatever a component does, a job has an outcome, and the node knows whether it is still fit."""

import asyncio
from typing import Any

import pytest

from contracts.failure import FailureCode
from contracts.result import Status
from node.app import SystemClock
from node.egress.events import JobEvents
from node.errors import Disposition, GenerationFailed, JobStopped
from node.execution import Execution
from node.invocation import RunningJob
from node.job import Outcome
from node.settings import Settings
from node.telemetry.metrics import Metrics
from tests.fakes import InMemoryOutbox, InMemoryServer, ScriptedComponent
from tests.unit.builders import job


def execution(component: ScriptedComponent, **settings: Any) -> Execution:
    return Execution(
        component,
        settings=Settings(**settings),
        instance_id="node-1",
        clock=SystemClock(),
        metrics=Metrics(),
        store=None,
    )


async def outcome_of(running_in: Execution, job_id: str = "job") -> Outcome:
    asked = job(job_id)
    clock = SystemClock()
    events = JobEvents("text2image", asked.envelope, InMemoryOutbox(InMemoryServer()), clock)
    return await running_in.outcome(asked, RunningJob(asked, events, clock))


def scripted(error: Exception) -> ScriptedComponent:
    def script(*_: Any) -> None:
        raise error

    return ScriptedComponent(script=script)


async def test_a_job_that_succeeds_is_described() -> None:
    running_in = execution(ScriptedComponent())
    outcome = await outcome_of(running_in)
    assert outcome.status is Status.SUCCEEDED
    assert outcome.result.node is not None
    assert outcome.result.node.instance_id == "node-1"
    assert running_in.unfit == ""


async def test_a_component_that_crashes_fails_its_job_and_after_a_few_jobs_the_node() -> None:
    running_in = execution(scripted(ZeroDivisionError("by zero")), max_failed_jobs=2)
    outcome = await outcome_of(running_in, "a")
    assert outcome.error is not None
    assert outcome.error.code is FailureCode.INTERNAL
    assert outcome.error.detail == "the component crashed: ZeroDivisionError: by zero"
    assert outcome.disposition is Disposition.RETRY
    assert running_in.unfit == ""
    await outcome_of(running_in, "b")
    assert "2 jobs in a row failed" in running_in.unfit


async def test_a_failure_of_the_request_says_nothing_about_the_node() -> None:
    running_in = execution(scripted(GenerationFailed("not with this prompt")), max_failed_jobs=1)
    outcome = await outcome_of(running_in)
    assert outcome.error is not None
    assert outcome.error.code is FailureCode.GENERATION_FAILED
    assert running_in.unfit == ""


async def test_a_job_that_stops_is_no_failure() -> None:
    running_in = execution(scripted(JobStopped(Status.CANCELLED)), max_failed_jobs=1)
    assert (await outcome_of(running_in)).status is Status.CANCELLED
    assert running_in.unfit == ""


async def test_a_component_that_says_it_is_broken_makes_the_node_unfit_at_once() -> None:
    component = ScriptedComponent()
    component.healthy = False
    running_in = execution(component)
    assert (await outcome_of(running_in)).status is Status.SUCCEEDED
    assert running_in.unfit == "scripted to be unhealthy"


class Hanging(ScriptedComponent):
    """Never returns, and does not look whether it should stop."""

    def __init__(self) -> None:
        super().__init__()
        self.left = asyncio.Event()

    async def invoke(self, request: Any, invocation: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()


async def test_a_job_without_a_sign_of_life_is_given_up_and_retried_elsewhere() -> None:
    component = Hanging()
    running_in = execution(component, stall_seconds=0.05)
    outcome = await outcome_of(running_in)
    assert outcome.error is not None
    assert outcome.error.code is FailureCode.INTERNAL
    assert "NODE_STALL_SECONDS" in outcome.error.detail
    assert outcome.disposition is Disposition.RETRY
    assert running_in.unfit == "a job gave no sign of life for 0.05 s"
    await asyncio.wait_for(component.left.wait(), 10)


async def test_a_slow_job_that_reports_its_steps_is_left_alone() -> None:
    component = ScriptedComponent(free_running=False)
    running_in = execution(component, stall_seconds=0.5)
    work = asyncio.create_task(outcome_of(running_in))
    for _ in range(4):
        await asyncio.sleep(0.2)
        component.step()
    assert (await asyncio.wait_for(work, 10)).status is Status.SUCCEEDED
    assert running_in.unfit == ""


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_stall_needs_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="stall_seconds"):
        Settings(stall_seconds=seconds)
