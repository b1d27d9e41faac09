"""What callers see of a job."""

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from contracts import examples
from contracts.failure import FailureCode, Problem
from contracts.megaservice import MegaServiceRequest, MegaServiceResult
from contracts.result import AnyResult, Status
from orchestrator_example.gateway.job import Job
from orchestrator_example.gateway.jobs_answer import JobSubmission, JobView, images_of, view_of
from orchestrator_example.gateway.links import Links
from orchestrator_example.gateway.settings import GatewaySettings
from tests.unit.orchestrator_example.gateway.told import job, progress, result, stage

LINKS = Links("secret", 60)
DESK: Any = SimpleNamespace(outlook=lambda _: (3, 12.5))


def seen(made: Job, public_url: str | None = None) -> JobView:
    settings = GatewaySettings(public_url=public_url)
    app = SimpleNamespace(state=SimpleNamespace(settings=settings))
    request: Any = SimpleNamespace(app=app, base_url="http://asked/")
    return view_of(DESK, made, LINKS, request)


async def test_a_job_that_waits_has_a_place_and_a_time() -> None:
    view = seen(job("one", submitted_at=0.0))
    assert (view.id, view.status.value, view.submitted) == (
        "one",
        "queued",
        "1970-01-01T00:00:00.000Z",
    )
    assert (view.queue_position, view.eta_seconds, view.progress) == (3, 12.5, None)


async def test_a_job_that_runs_has_the_time_that_it_tells_itself() -> None:
    made = job()
    made.tell(progress(2))
    view = seen(made)
    assert view.progress is not None
    assert (view.progress.step, view.progress.num_inference_steps) == (2, 4)
    assert view.eta_seconds is None


async def test_a_chain_tells_which_stage_it_is_in() -> None:
    made = job()
    made.tell(stage("writer", progress(1)))
    view = seen(made)
    assert view.progress is not None
    assert (view.progress.stage, view.progress.fraction) == ("writer", 0.5)


async def test_a_failed_job_says_why() -> None:
    problem = Problem.of(FailureCode.INTERNAL, "it broke", job_id="j", retryable=True)
    made = job()
    made.end(result(Status.FAILED, images=0, error=problem))
    view = seen(made)
    assert (view.status.value, view.error, view.image_urls) == ("failed", problem, [])


async def test_pictures_have_links_under_the_address_that_callers_know() -> None:
    made = job("one")
    made.end(result(images=2))
    asked = seen(made).image_urls
    assert [each.partition("?")[0] for each in asked] == [
        "http://asked/v1/files/one/0",
        "http://asked/v1/files/one/1",
    ]
    (first, _) = seen(made, public_url="https://pictures.example/base/").image_urls
    assert first.startswith("https://pictures.example/base/v1/files/one/0?")


async def test_results_keep_the_fields_of_their_service() -> None:
    made = Job("chain", MegaServiceRequest(prompt="a"), "somebody")
    made.end(MegaServiceResult(job_id="j", status=Status.SUCCEEDED, images=[examples.IMAGE]))
    assert len(images_of(made)) == 1
    written = seen(made).model_dump(mode="json")
    assert written["result"]["stages"] == {}


async def test_what_is_no_picture_is_not_linked() -> None:
    made = job()
    made.end(AnyResult(job_id="j", status=Status.SUCCEEDED, images=["text"]))
    assert images_of(made) == []
    assert seen(made).image_urls == []


@pytest.mark.parametrize(
    "given",
    [
        {"deadline_seconds": 0},
        {"deadline_seconds": float("inf")},
        {"deadline_seconds": float("nan")},
        {"deadline_seconds": 1e12},
        {"priority": 10},
        {"priority": -1},
        {"unknown": 1},
    ],
)
def test_a_submission_out_of_bounds_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobSubmission.model_validate({"request": {"prompt": "a"}} | given)
