"""Problem details and the closed set of codes."""

import pytest

from contracts.failure import FailureCode, Problem

CODES = {
    "invalid_request": 422,
    "unsupported_content_type": 415,
    "model_not_available": 404,
    "deadline_exceeded": 504,
    "cancelled": 409,
    "out_of_memory": 507,
    "generation_failed": 500,
    "safety_refused": 451,
    "result_too_large": 413,
    "attempts_exhausted": 500,
    "overloaded": 503,
    "conflict": 409,
    "internal": 500,
}


def test_the_set_of_codes_is_closed() -> None:
    assert {code.value for code in FailureCode} == set(CODES)


@pytest.mark.parametrize("code", FailureCode)
def test_every_code_has_a_type_a_title_and_an_http_status(code: FailureCode) -> None:
    problem = Problem.of(code, "because", job_id="j1", retryable=True, attempt=2)
    assert problem.status == CODES[code.value]
    assert problem.type == f"urn:text2image-node:problem:{code.value}"
    assert problem.title
    assert (problem.detail, problem.instance, problem.attempt) == ("because", "j1", 2)
    assert Problem.model_validate_json(problem.to_json()) == problem


def test_titles_tell_codes_apart() -> None:
    titles = {Problem.of(c, "x", job_id="j", retryable=False).title for c in FailureCode}
    assert len(titles) == len(FailureCode)


def test_a_problem_has_exactly_the_fields_of_the_wire() -> None:
    assert list(Problem.model_fields) == [
        *("type", "title", "status", "detail", "instance"),
        *("code", "retryable", "attempt"),
    ]
