"""Jobs outlive their gateway: what was written is what is read, for as long as it matters."""

import os
import time
from pathlib import Path

import pytest

from contracts.result import Status
from contracts.service import ServiceContract
from contracts.text2image import TEXT2IMAGE, Text2ImageRequest
from node.errors import StoreUnavailable
from orchestrator_example.gateway.job import Job, JobState
from orchestrator_example.gateway.records import JobRecords
from tests.unit.orchestrator_example.gateway.told import job, result

DAY_SECONDS = 86400.0


@pytest.fixture
def records(tmp_path: Path) -> JobRecords:
    return JobRecords(f"file://{tmp_path}", {TEXT2IMAGE: ServiceContract()})


async def kept(records: JobRecords, job_id: str, *, is_over: bool = True) -> Job:
    made = job(job_id, keeps_on=True)
    if is_over:
        made.end(result())
    await records.keep(made)
    return made


def age(folder: Path, seconds: float) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            os.utime(file, (time.time() - seconds,) * 2)


def damage(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-20])


async def test_a_job_that_is_on_its_way_is_read_as_it_was(records: JobRecords) -> None:
    request = Text2ImageRequest(prompt="a cat", seed=[1, 2], num_images_per_prompt=2)
    made = Job(TEXT2IMAGE, request, "me", job_id="one", deadline=5.0, priority=7, submitted_at=2.5)
    made.cancel_requested = True
    await records.keep(made)
    found = await records.find("one")
    assert found is not None
    assert (found.request, found.request.to_json()) == (request, request.to_json())
    assert (found.id, found.owner, found.deadline, found.priority) == ("one", "me", 5.0, 7)
    assert (found.submitted_at, found.cancel_requested, found.keeps_on) == (2.5, True, True)
    assert (found.state, found.ended.is_set()) == (JobState.QUEUED, False)
    assert found.taken.done()


@pytest.mark.parametrize("status", list(Status))
async def test_a_job_that_ended_is_read_with_its_result(
    records: JobRecords, status: Status
) -> None:
    made = job("one")
    made.end(result(status))
    await records.keep(made)
    found = await records.find("one")
    assert found is not None
    assert (found.result, found.state.value) == (made.result, status.value)


async def test_what_was_never_written_is_not_found(records: JobRecords) -> None:
    assert await records.find("../../etc/passwd") is None
    await records.drop("nobody")


async def test_what_is_dropped_is_not_found(records: JobRecords) -> None:
    await kept(records, "one", is_over=False)
    await records.drop("one")
    assert await records.find("one") is None


async def test_jobs_of_services_that_are_not_served_here_are_not_found(
    records: JobRecords, tmp_path: Path
) -> None:
    await kept(records, "one")
    assert await JobRecords(f"file://{tmp_path}", {}).find("one") is None


async def test_a_damaged_record_is_a_clear_error(records: JobRecords, tmp_path: Path) -> None:
    await kept(records, "one")
    damage(tmp_path)
    with pytest.raises(StoreUnavailable, match="one is damaged"):
        await records.find("one")


async def test_a_store_that_fails_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    broken = JobRecords(f"file://{tmp_path}/file/store", {})
    with pytest.raises(StoreUnavailable):
        await broken.keep(job("one"))


async def test_ended_jobs_are_swept_when_they_are_old(records: JobRecords, tmp_path: Path) -> None:
    await kept(records, "old")
    age(tmp_path, 7200)
    await kept(records, "new")
    assert await records.sweep(3600) == 1
    assert await records.find("old") is None
    assert await records.find("new") is not None


async def test_jobs_that_wait_are_swept_after_a_week(records: JobRecords, tmp_path: Path) -> None:
    await kept(records, "waits", is_over=False)
    age(tmp_path, 2 * DAY_SECONDS)
    assert await records.sweep(3600) == 0
    assert await records.find("waits") is not None
    age(tmp_path, 8 * DAY_SECONDS)
    assert await records.sweep(3600) == 1
    assert await records.find("waits") is None


async def test_what_cannot_be_read_is_swept(records: JobRecords, tmp_path: Path) -> None:
    await kept(records, "one", is_over=False)
    damage(tmp_path)
    age(tmp_path, 7200)
    assert await records.sweep(3600) == 1
