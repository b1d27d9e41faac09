"""Everything that goes wrong, in one tree, and what each means on the wire."""

import re

import pytest

import node.errors
from contracts.failure import FailureCode
from contracts.result import Status
from contracts.text2image import Text2ImageResult
from node.errors import (
    Disposition,
    JobError,
    JobExpired,
    JobFailed,
    JobNotSucceeded,
    JobStopped,
    NodeError,
    Overloaded,
)
from tests.unit.builders import failed

NAME = re.compile(r"^(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)")


def subclasses(root: type) -> list[type]:
    return [each for direct in root.__subclasses__() for each in (direct, *subclasses(direct))]


def drawn_tree() -> dict[str, str | None]:
    """Read name and parent of each class out of the docstring's drawing."""
    parents: dict[str, str | None] = {}
    above: list[str] = []
    for line in (node.errors.__doc__ or "").splitlines()[2:]:
        if (match := NAME.match(line)) is not None:
            depth = len(match["indent"]) // 4
            above = [*above[:depth], match["name"]]
            parents[match["name"]] = above[depth - 1] if depth else None
    return parents


OURS = [each for each in subclasses(NodeError) if each.__module__ == "node.errors"]
JOB_ERRORS = [each for each in OURS if issubclass(each, JobError) and each is not JobError]


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    parents = {each.__name__: each.__bases__[0].__name__ for each in OURS}
    assert drawn_tree() == {"NodeError": None} | parents


def test_no_other_module_of_the_node_raises_errors_of_its_own() -> None:
    import node.app
    import node.cli  # noqa: F401 - all of the node, without torch

    elsewhere = {e for e in subclasses(NodeError) if e.__module__.startswith("node.")} - set(OURS)
    assert elsewhere == set()


@pytest.mark.parametrize("error", JOB_ERRORS, ids=lambda error: error.__name__)
def test_every_error_of_a_job_has_a_code_and_a_disposition(error: type[JobError]) -> None:
    problem = error("what went wrong").problem("job", 3)
    assert isinstance(error.disposition, Disposition)
    assert (problem.code, problem.detail) == (error.code, "what went wrong")
    assert (problem.instance, problem.attempt) == ("job", 3)
    assert problem.retryable is (error.disposition is Disposition.RETRY)


def test_each_code_is_raised_by_one_error_or_is_an_outcome() -> None:
    codes = [error.code for error in JOB_ERRORS]
    outcomes = [FailureCode.CANCELLED, FailureCode.DEADLINE_EXCEEDED]
    assert sorted(codes + outcomes) == sorted(FailureCode)


@pytest.mark.parametrize("error", JOB_ERRORS, ids=lambda error: error.__name__)
def test_what_can_never_succeed_is_kept_for_people(error: type[JobError]) -> None:
    passing = {FailureCode.OUT_OF_MEMORY, FailureCode.INTERNAL, Overloaded.code}
    elsewhere = {FailureCode.MODEL_NOT_AVAILABLE}
    expected = Disposition.DEAD_LETTER
    if error.code in passing:
        expected = Disposition.RETRY
    elif error.code in elsewhere:
        expected = Disposition.FORWARD
    assert error.disposition is expected


def test_a_clients_error_tells_the_code_and_carries_the_result() -> None:
    error = JobFailed(failed().result)
    assert str(error) == "invalid_request: what went wrong"
    assert error.result.status is Status.FAILED
    assert isinstance(error, JobNotSucceeded)


def test_a_clients_error_without_details_tells_the_status() -> None:
    assert str(JobExpired(Text2ImageResult(job_id="job", status=Status.EXPIRED))) == "expired"


def test_a_stop_says_as_what() -> None:
    assert JobStopped(Status.EXPIRED).status is Status.EXPIRED
    assert not isinstance(JobStopped(Status.EXPIRED), JobError)
