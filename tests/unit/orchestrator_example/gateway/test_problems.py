"""Every error has a status, a code for programs, and a wait where waiting helps."""

import json

import pytest

from contracts.failure import FailureCode, Problem
from contracts.result import Status
from node import errors
from node.errors import NodeError
from orchestrator_example.gateway import errors as gateway_errors
from orchestrator_example.gateway.errors import Busy, NotRouted, TooManyRequests
from orchestrator_example.gateway.problems import (
    PROBLEM_MEDIA_TYPE,
    problem_answer,
    refusal_of,
    refusal_of_result,
)
from tests.unit.orchestrator_example.gateway.told import result


def all_kinds(kind: type[NodeError]) -> list[type[NodeError]]:
    below = [each for child in kind.__subclasses__() for each in all_kinds(child)]
    return [kind, *below]


def made(kind: type[NodeError]) -> NodeError:
    """Make an error, whatever it is made of."""
    if issubclass(kind, errors.JobNotSucceeded):
        return kind(result(Status.FAILED))
    if kind is errors.JobStopped:
        return kind(Status.CANCELLED)
    if kind in (Busy, TooManyRequests):
        return kind("why", 3.0)
    if kind is NotRouted:
        return NotRouted(405, "why")
    return kind("why")


KINDS = [
    kind
    for kind in all_kinds(NodeError)
    if kind.__module__ in (errors.__name__, gateway_errors.__name__)
    and kind not in (errors.JobError, gateway_errors.GatewayError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_a_problem_that_says_what_happened(kind: type[NodeError]) -> None:
    refusal = refusal_of(made(kind))
    problem = refusal.problem
    assert 400 <= problem.status <= 599
    assert problem.type.endswith(problem.code)
    assert problem.title
    assert problem.detail


@pytest.mark.parametrize(
    ("kind", "status", "code", "waits"),
    [
        (errors.BrokerUnavailable, 503, "broker_unavailable", True),
        (errors.Unroutable, 503, "broker_unavailable", True),
        (errors.PublishRefused, 503, "overloaded", True),
        (errors.Overloaded, 503, "overloaded", True),
        (errors.TopologyMismatch, 503, "service_not_there", True),
        (errors.StoreUnavailable, 503, "store_unavailable", True),
        (Busy, 503, "busy", True),
        (TooManyRequests, 429, "too_many_requests", True),
        (errors.MessageTooLarge, 413, "body_too_large", False),
        (errors.ModelNotAvailable, 404, "model_not_available", False),
        (errors.Conflict, 409, "conflict", False),
        (errors.InvalidRequest, 422, "invalid_request", False),
        (errors.ArtifactMissing, 410, "artifact_missing", False),
        (errors.ArtifactCorrupt, 500, "artifact_corrupt", False),
        (gateway_errors.JobUnknown, 404, "job_unknown", False),
        (gateway_errors.LinkExpired, 403, "link_expired", False),
    ],
)
def test_where_waiting_helps_a_refusal_says_how_long(
    kind: type[NodeError], status: int, code: str, *, waits: bool
) -> None:
    refusal = refusal_of(made(kind))
    assert (refusal.problem.status, refusal.problem.code) == (status, code)
    assert ("Retry-After" in refusal.headers, refusal.problem.retryable) == (waits, waits)


@pytest.mark.parametrize(("seconds", "written"), [(0.01, "1"), (2.2, "3"), (5.0, "5")])
def test_a_wait_is_written_in_whole_seconds_never_none(seconds: float, written: str) -> None:
    assert refusal_of(Busy("why", seconds)).headers["Retry-After"] == written


@pytest.mark.parametrize(
    "kind", [errors.BrokerUnavailable, errors.Unroutable, errors.StoreUnavailable]
)
def test_callers_are_not_told_where_our_things_are(kind: type[NodeError]) -> None:
    detail = refusal_of(
        kind("amqp://10.0.0.7:5672 refused; file:///srv/gateway is full")
    ).problem.detail
    assert "10.0.0.7" not in detail
    assert "/srv" not in detail
    assert "ask again" in detail


def test_a_missing_key_is_asked_for() -> None:
    refusal = refusal_of(gateway_errors.Unauthorized("send one"))
    assert refusal.headers == {"WWW-Authenticate": "Bearer"}


def test_a_failed_job_tells_its_own_problem() -> None:
    problem = Problem.of(FailureCode.OUT_OF_MEMORY, "too large", job_id="j", retryable=True)
    refusal = refusal_of_result(result(Status.FAILED, error=problem))
    assert (refusal.problem.code, refusal.problem.instance) == ("out_of_memory", problem.instance)
    assert refusal.problem.status == problem.status


def test_a_result_without_a_reason_says_so() -> None:
    refusal = refusal_of_result(result(Status.CANCELLED))
    assert "ended as cancelled, without a reason" in refusal.problem.detail


def test_an_answer_is_problem_details_without_what_is_unknown() -> None:
    answer = problem_answer(refusal_of(Busy("full", 2.0)))
    body = json.loads(bytes(answer.body))
    assert answer.headers["content-type"] == PROBLEM_MEDIA_TYPE
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert body["status"] == 503
    assert None not in body.values()
