"""One trace for a whole chain: the caller's, or one of its own."""

import re

import pytest

from orchestrator_example.trace import stage_headers, trace_id

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-00"
VALID = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")


def test_a_stage_is_a_span_of_its_own_in_the_callers_trace() -> None:
    headers = {"traceparent": PARENT, "tracestate": "vendor=1"}
    one, other = (stage_headers(headers, "chain", job) for job in ("chain:a:1:x", "chain:b:1:x"))
    assert trace_id(headers, "chain") == TRACE
    for made in (one, other):
        assert made["tracestate"] == "vendor=1"
        assert VALID.fullmatch(made["traceparent"])
        assert made["traceparent"].startswith(f"00-{TRACE}-")
        assert made["traceparent"].endswith("-00"), "whether it is sampled is the caller's choice"
    assert len({one["traceparent"], other["traceparent"], PARENT}) == 3


@pytest.mark.parametrize(
    "invalid",
    [
        None,
        "",
        "nonsense",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-b7ad6b7169203331-01",
        f"00-{TRACE.upper()}-b7ad6b7169203331-01",
        f"00-{TRACE[:-1]}-b7ad6b7169203331-01",
        f"0-{TRACE}-b7ad6b7169203331-01",
        f"00-{TRACE}-b7ad6b7169203331-010",
        17,
    ],
)
def test_without_a_valid_parent_the_chain_has_a_trace_of_its_own(invalid: object) -> None:
    headers = {"traceparent": invalid, "tracestate": "vendor=1"}
    made = stage_headers(headers, "chain", "chain:a:1:x")
    assert list(made) == ["traceparent"], "a state without its trace means nothing"
    assert VALID.fullmatch(made["traceparent"])
    assert made["traceparent"].split("-")[1] == trace_id(headers, "chain") != trace_id({}, "other")


def test_every_orchestrator_makes_the_same_trace() -> None:
    assert stage_headers({}, "chain", "job") == stage_headers({}, "chain", "job")
    assert trace_id({}, "chain") == trace_id({"traceparent": "nonsense"}, "chain")


def test_a_later_version_of_the_header_is_read_as_far_as_it_is_known() -> None:
    later = f"01-{TRACE}-b7ad6b7169203331-01-what-comes-then"
    assert trace_id({"traceparent": later}, "chain") == TRACE
