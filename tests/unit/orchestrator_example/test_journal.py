"""Ids of the stages' jobs, and which of their answers still count."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from contracts.failure import FailureCode, Problem
from contracts.message import JobId
from contracts.result import AnyResult, Status
from contracts.text2image import Text2ImageResult
from node.job import Outcome
from node.ports import KeptResult
from node.stores.recent import RecentResults
from orchestrator_example.journal import Journal, fingerprint, make_journal, stage_job_id
from tests.fakes import ManualClock

JOB_ID: TypeAdapter[str] = TypeAdapter(JobId)
DIGEST = fingerprint({"text": "x"})
CHAIN_IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:~@/+=-]{0,127}", fullmatch=True)
STAGES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", fullmatch=True)


@settings(deadline=None)
@given(chain=CHAIN_IDS, stage=STAGES, number=st.integers(1, 10_000))
def test_the_job_of_a_stage_has_a_valid_id_whatever_the_chain_is_called(
    chain: str, stage: str, number: int
) -> None:
    job_id = stage_job_id(chain, stage, number, DIGEST)
    assert JOB_ID.validate_python(job_id) == job_id
    assert job_id == stage_job_id(chain, stage, number, DIGEST)


def test_the_id_of_a_stages_job_is_never_too_long() -> None:
    ids = [stage_job_id("c" * length, "a", 1, DIGEST) for length in range(1, 129)]
    assert max(len(each) for each in ids) == 128
    assert [JOB_ID.validate_python(each) for each in ids] == ids


def test_another_chain_stage_number_or_request_is_another_job() -> None:
    long = "c" * 128
    ids = [
        stage_job_id(*each)
        for each in [
            ("chain", "a", 1, DIGEST),
            ("other", "a", 1, DIGEST),
            (long, "a", 1, DIGEST),
            (long[:-1] + "d", "a", 1, DIGEST),
            ("chain", "b", 1, DIGEST),
            ("chain", "a", 2, DIGEST),
            ("chain", "a", 1, fingerprint({"text": "y"})),
        ]
    ]
    assert len(set(ids)) == len(ids)
    assert ids[0].startswith("chain:a:1:"), "a person finds the chain in it"


def test_a_stage_adds_no_dot_to_the_routing_keys_of_its_job() -> None:
    assert "." not in stage_job_id("chain", "a.b", 1, DIGEST)


def test_what_is_null_on_the_wire_has_the_fingerprint_of_null() -> None:
    digest = fingerprint({"x": [None]})
    for value in (math.nan, math.inf, -math.inf):
        assert fingerprint({"x": [value]}) == digest
    assert fingerprint({"x": [0.0]}) != digest


def test_a_fingerprint_is_that_of_the_fields_and_not_of_their_order() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})


@pytest.fixture
def store() -> RecentResults:
    return RecentResults(10, 10_000, 60.0, ManualClock())


@pytest.fixture
def journal(store: RecentResults) -> Journal:
    return Journal(store)


def answered(job_id: str, status: Status = Status.SUCCEEDED, text: str = "x") -> AnyResult:
    error = None
    if status is not Status.SUCCEEDED:
        code = FailureCode.GENERATION_FAILED
        error = Problem.of(code, "no", job_id=job_id, retryable=False)
    return AnyResult(job_id=job_id, status=status, error=error, text=text)


async def test_what_a_stage_answered_is_found_again(journal: Journal) -> None:
    assert await journal.find("a", 0) is None
    answer = answered("a")
    assert await journal.keep(DIGEST, answer, 0) == answer
    assert await journal.find("a", 0) == answer
    assert await journal.find("a", 3) == answer, "what succeeded is not done again"


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED, Status.EXPIRED])
async def test_a_failure_counts_until_a_person_replays_the_chain(
    journal: Journal, status: Status
) -> None:
    await journal.keep(DIGEST, answered("a", status), 1)
    assert await journal.find("a", 0) is not None
    assert await journal.find("a", 1) is not None
    assert await journal.find("a", 2) is None
    await journal.keep(DIGEST, answered("a", status, "again"), 2)
    assert await journal.find("a", 2) == answered("a", status, "again")


async def test_the_first_answer_stands(journal: Journal) -> None:
    first = await journal.keep(DIGEST, answered("a", text="first"), 0)
    assert await journal.keep(DIGEST, answered("a", text="second"), 0) == first
    assert await journal.find("a", 0) == first


async def test_a_result_of_another_kind_is_no_answer_of_a_stage(
    journal: Journal, store: RecentResults
) -> None:
    other = Text2ImageResult(job_id="a", status=Status.SUCCEEDED)
    await store.keep(KeptResult("a", DIGEST, Outcome(other)))
    assert await journal.find("a", 0) is None


async def test_orchestrators_share_answers_where_there_is_a_store(tmp_path: object) -> None:
    url = f"file://{tmp_path}/results/"
    one, other = (Journal(make_journal(url, owner, 60.0, ManualClock())) for owner in "ab")
    await one.keep(DIGEST, answered("a"), 0)
    assert await other.find("a", 0) == answered("a")


async def test_without_a_store_answers_are_each_orchestrators_own() -> None:
    one, other = (Journal(make_journal(None, owner, 60.0, ManualClock())) for owner in "ab")
    await one.keep(DIGEST, answered("a"), 0)
    assert await other.find("a", 0) is None
    assert await one.find("a", 0) is not None
