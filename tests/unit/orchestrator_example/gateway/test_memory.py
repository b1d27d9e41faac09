"""What a gateway remembers of jobs is bounded, and those on their way are never forgotten."""

import pytest

from orchestrator_example.gateway import memory as memory_module
from orchestrator_example.gateway.job import Job
from orchestrator_example.gateway.memory import JobMemory
from tests.unit.orchestrator_example.gateway.told import job, result


def ended(memory: JobMemory, job_id: str, at: float = 0.0) -> Job:
    made = job(job_id)
    memory.begin(made)
    made.end(result())
    made.ended_at = at
    memory.keep(made)
    return made


def ids(memory: JobMemory) -> list[str]:
    return [each.id for each in memory]


async def test_a_job_is_found_on_its_way_and_after_its_end() -> None:
    memory = JobMemory(60, 10**6)
    made = job("one")
    memory.begin(made)
    assert (memory.get("one"), memory.num_on_their_way) == (made, 1)
    assert memory.request_bytes == made.request_bytes
    made.end(result())
    memory.keep(made)
    assert (memory.get("one"), memory.num_on_their_way, memory.request_bytes) == (made, 0, 0)


async def test_a_refused_job_leaves_nothing_behind() -> None:
    memory = JobMemory(60, 10**6)
    made = job("one")
    memory.begin(made)
    memory.drop(made)
    assert (memory.get("one"), memory.request_bytes, ids(memory)) == (None, 0, [])


async def test_ended_jobs_are_forgotten_when_they_are_old() -> None:
    memory = JobMemory(60, 10**6)
    for number, at in enumerate((0.0, 30.0)):
        ended(memory, str(number), at)
    memory.begin(job("on its way", submitted_at=-1000.0))
    memory.forget(59.0)
    assert ids(memory) == ["0", "1", "on its way"]
    memory.forget(60.0)
    assert ids(memory) == ["1", "on its way"]


async def test_the_first_to_end_are_forgotten_when_all_take_too_much() -> None:
    size = ended(JobMemory(60, 10**6), "any").num_bytes
    memory = JobMemory(60, 2 * size)
    for name in ("a", "b", "c"):
        ended(memory, name)
    memory.forget(0.0)
    assert ids(memory) == ["b", "c"]
    memory.forget(0.0)
    assert ids(memory) == ["b", "c"]


async def test_the_first_to_end_are_forgotten_when_they_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_module, "KEPT_JOBS", 2)
    memory = JobMemory(60, 10**6)
    for name in ("a", "b", "c"):
        ended(memory, name)
    memory.forget(0.0)
    assert ids(memory) == ["b", "c"]


async def test_a_job_that_another_gateway_ended_is_taken_in_as_it_is() -> None:
    memory = JobMemory(60, 10**6)
    made = job("recorded")
    made.end(result())
    memory.keep(made)
    assert (memory.get("recorded"), memory.num_on_their_way, memory.request_bytes) == (made, 0, 0)
