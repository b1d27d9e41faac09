"""What a chain does next, and how it ends, given what its stages did."""

import asyncio
import contextlib
import itertools
import operator
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.failure import FailureCode
from contracts.megaservice import StageReport, StageStatus
from contracts.result import Status
from orchestrator_example.graph import GraphError, ServiceGraph, Stage
from orchestrator_example.orchestrator import Chain
from orchestrator_example.planning import (
    CHAIN_ENDS,
    MAX_PATTERNS,
    WENT_WELL,
    due_repeat,
    end_of,
    is_black_listed,
    next_steps,
    unmet,
)
from tests.unit.orchestrator_example.builders import failed, graph, report, stage

FAN_IN = graph("a", "b").add(stage("c")).flow_to("a", "c", {"x": "text"}, when={"good": True})
FAN_IN = FAN_IN.flow_to("b", "c", {"y": "text"})


def begun(of: ServiceGraph, **reports: StageReport) -> list[str]:
    return [each.name for each in next_steps(of, reports, set()).begin]


def passed_over(of: ServiceGraph, **reports: StageReport) -> dict[str, str]:
    return next_steps(of, reports, set()).pass_over


def test_what_is_under_way_or_over_is_not_begun_again() -> None:
    assert [s.name for s in next_steps(FAN_IN, {}, {"a"}).begin] == ["b"]
    assert begun(FAN_IN, a=report(), b=report(), c=report()) == []


def test_a_fan_in_begins_when_at_least_one_flow_is_taken() -> None:
    assert begun(FAN_IN, a=report(good=True)) == ["b"], "it waits for all, whatever they say"
    assert begun(FAN_IN, a=report(good=False), b=report()) == ["c"]
    assert begun(FAN_IN, a=report(good=True), b=report(StageStatus.NOT_TAKEN)) == ["c"]


def test_a_stage_that_no_flow_leads_to_is_passed_over_with_every_reason() -> None:
    reports = {"a": report(good=False), "b": report(StageStatus.NOT_TAKEN)}
    assert passed_over(FAN_IN, **reports) == {
        "c": "the condition after a does not hold; b was not taken"
    }


@pytest.mark.parametrize(
    ("before", "goes_on"),
    [
        (report(StageStatus.SUCCEEDED), True),
        (report(StageStatus.SUBSTITUTED), True),
        (report(StageStatus.SKIPPED), True),
        (report(StageStatus.NOT_TAKEN), False),
        (failed(), False),
        (report(StageStatus.CANCELLED), False),
        (report(StageStatus.EXPIRED), False),
    ],
)
def test_a_chain_goes_on_after_what_went_well_or_was_skipped(
    before: StageReport, goes_on: bool
) -> None:
    line = graph("a", "b", flow="a >> b")
    assert begun(line, a=before) == (["b"] if goes_on else [])


def test_a_condition_on_what_was_skipped_does_not_hold() -> None:
    line = graph("a", "b").flow_to("a", "b", when=lambda _: True)
    assert passed_over(line, a=report(StageStatus.SKIPPED)) == {"b": "a was skipped"}
    assert begun(line, a=report(StageStatus.SUBSTITUTED)) == ["b"]


@pytest.mark.parametrize(
    ("black_list", "forbidden"),
    [
        ([], False),
        (None, False),
        ("", False),
        (["speaker"], False),
        (["painter"], True),
        (["text2"], True),
        ([".*"], True),
        (["speaker", "^pain"], True),
        (".*", True),
        (["("], True),
        ([5], True),
        ([None], True),
        (5, True),
        ({"painter": 1}, True),
        (["a{99999999999999999999}"], True),
        (["(" * 5000 + ")" * 5000], True),
    ],
)
def test_a_black_list_names_stages_or_services_and_when_unreadable_all(
    black_list: Any, forbidden: bool
) -> None:
    painter = Stage("painter", "text2image")
    assert is_black_listed(painter, {"downstream_black_list": black_list}) is forbidden
    assert not is_black_listed(painter, {})


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_no_black_list_stops_the_orchestrator(black_list: Any) -> None:
    forbidden = is_black_listed(stage("a"), {"downstream_black_list": black_list})
    # Nothing at all forbids nothing; of what else there is, only patterns may let a stage pass.
    assert forbidden or not black_list or isinstance(black_list, str | list)


@pytest.mark.parametrize(
    "pattern",
    [
        "(.|.|.)*!",
        "(.|..)*!",
        "(a+)+$",
        ".*" * 3 + "x",
        "x" * 129,
        r"\w{1,64}!",
        "(?:text2image)?",
    ],
)
def test_a_pattern_that_could_keep_the_process_busy_forbids_everything(pattern: str) -> None:
    # On longer names, some of them would take years.
    assert is_black_listed(Stage("prompt-writer"), {"downstream_black_list": [pattern]})


@pytest.mark.parametrize(
    ("pattern", "forbidden"),
    [
        (".*", ["llm", "text2image", "tts"]),
        ("text2image", ["text2image"]),
        ("^image", []),
        ("image$", ["text2image"]),
        ("llm|tts", ["llm", "tts"]),
        ("t.*2.*e", ["text2image"]),
    ],
)
def test_patterns_as_opea_writes_them_mean_what_they_say(
    pattern: str, forbidden: list[str]
) -> None:
    answer = {"downstream_black_list": [pattern]}
    names = ["llm", "text2image", "tts"]
    assert [name for name in names if is_black_listed(Stage(name), answer)] == forbidden


def test_more_patterns_than_are_read_forbid_everything() -> None:
    patterns = [f"speaker-{number}" for number in range(MAX_PATTERNS + 1)]
    painter = stage("painter")
    assert not is_black_listed(painter, {"downstream_black_list": patterns[:-1]})
    assert is_black_listed(painter, {"downstream_black_list": patterns})


def test_one_black_list_forbids_a_stage_that_others_would_begin() -> None:
    made = graph("guard", "writer", "painter").flow_to("guard", "painter", {})
    made = made.flow_to("writer", "painter")
    forbidding = report(downstream_black_list=["painter"])
    reports = {"guard": forbidding, "writer": report(text="x")}
    assert passed_over(made, **reports) == {"painter": "guard black-lists painter"}
    assert begun(made, guard=report(downstream_black_list=["other"]), writer=report()) == [
        "painter"
    ]


def test_a_black_list_reaches_stages_that_come_later() -> None:
    made = graph("guard", "writer", "painter", "aside", flow="guard >> writer >> painter")
    made = made.flow_to("aside", "painter", {})
    reports = {"aside": report(), "writer": report(text="x")}
    for patterns in (["^painter$"], ["service-painter"]):
        guard = report(text="no", downstream_black_list=patterns)
        assert begun(made, guard=guard, aside=report()) == ["writer"]
        told = passed_over(made, guard=guard, **reports)
        assert told == {"painter": "guard black-lists painter"}
        ended = {"guard": guard, **reports, "painter": report(StageStatus.NOT_TAKEN)}
        assert end_of(made, ended, "j")[0] is Status.FAILED
    assert begun(made, writer=report(downstream_black_list=["aside"])) == ["guard", "aside"], (
        "what does not come later is none of its business"
    )


def repeating(times: int = 2) -> ServiceGraph:
    """Draw a judged pair in the middle of a larger graph."""
    line = graph("before", "maker", "judge", "after", flow="before >> maker >> judge >> after")
    return line.repeat("maker", "judge", {"good": True}, times=times)


def test_a_part_is_repeated_until_the_answer_is_as_wanted_or_its_times_are_over() -> None:
    bad, good = {"judge": report(good=False)}, {"judge": report(good=True)}
    assert due_repeat(repeating(), bad, "judge", 0) is not None
    assert due_repeat(repeating(), bad, "judge", 1) is not None
    assert due_repeat(repeating(), bad, "judge", 2) is None
    assert due_repeat(repeating(), good, "judge", 0) is None
    assert due_repeat(repeating(), {"judge": failed()}, "judge", 0) is None
    assert due_repeat(repeating(), {"maker": report()}, "maker", 0) is None


def test_a_result_says_which_answers_are_still_not_as_wanted() -> None:
    assert unmet(repeating(), {}) == []
    assert unmet(repeating(), {"judge": report(good=True)}) == []
    assert unmet(repeating(), {"judge": failed()}) == []
    (warning,) = unmet(repeating(), {"judge": report(good=False)})
    assert warning == "judge: still not as wanted after 3 times; the last one stands"


PAIR = graph("a", "b", "c", flow="a >> b")


@pytest.mark.parametrize(
    ("reports", "status"),
    [
        ({"a": failed(), "b": report(StageStatus.CANCELLED)}, Status.CANCELLED),
        ({"a": failed(), "b": report(StageStatus.EXPIRED)}, Status.EXPIRED),
        (
            {"a": report(StageStatus.EXPIRED), "b": report(StageStatus.CANCELLED)},
            Status.CANCELLED,
        ),
        ({"a": failed(), "b": report()}, Status.FAILED),
        ({"a": report(StageStatus.SKIPPED), "b": report(StageStatus.SKIPPED)}, Status.SUCCEEDED),
        ({"a": report(), "b": report(StageStatus.NOT_TAKEN)}, Status.SUCCEEDED),
    ],
)
def test_a_cancel_counts_more_than_a_deadline_and_that_more_than_a_failure(
    reports: dict[str, StageReport], status: Status
) -> None:
    assert end_of(PAIR, reports, "j")[0] is status


def test_a_stage_that_the_end_of_another_one_stopped_is_not_why_a_chain_ended() -> None:
    stopped = report(StageStatus.CANCELLED).model_copy(update={"reason": "stopped by another"})
    for reports in ({"a": failed(), "c": stopped}, {"c": stopped, "a": failed()}):
        status, problem = end_of(PAIR, reports, "j")
        assert status is Status.FAILED
        assert problem is not None
        assert problem.detail == "stage 'a': no"


def test_a_chain_fails_for_the_reason_of_its_stage() -> None:
    status, problem = end_of(PAIR, {"a": failed(FailureCode.SAFETY_REFUSED, "no")}, "j")
    assert status is Status.FAILED
    assert problem is not None
    assert (problem.code, problem.detail) == (FailureCode.SAFETY_REFUSED, "stage 'a': no")
    assert problem.instance == "j"


@pytest.mark.parametrize("code", [FailureCode.INTERNAL, FailureCode.OUT_OF_MEMORY])
def test_what_went_wrong_inside_a_service_is_not_said_of_the_orchestrator(
    code: FailureCode,
) -> None:
    _, problem = end_of(PAIR, {"a": failed(code)}, "j")
    assert problem is not None
    assert problem.code is FailureCode.ATTEMPTS_EXHAUSTED


def test_a_chain_that_a_black_list_ends_was_refused() -> None:
    made = graph("a", "b", "c", flow=("a >> b", "a >> c"))
    guard = report(text="no swords", downstream_black_list=[".*"])
    none = report(StageStatus.NOT_TAKEN)
    status, problem = end_of(made, {"a": guard, "b": none, "c": none}, "j")
    assert status is Status.FAILED
    assert problem is not None
    assert problem.code is FailureCode.SAFETY_REFUSED
    assert "'a' lets nothing pass: no swords" in problem.detail
    assert end_of(made, {"a": guard, "b": report(), "c": none}, "j")[0] is Status.SUCCEEDED


def test_a_black_list_that_hit_nothing_is_not_why_a_chain_ended() -> None:
    made = graph("a", "b").flow_to("a", "b", when={"good": True})
    reports = {"a": report(downstream_black_list=["z"]), "b": report(StageStatus.NOT_TAKEN)}
    assert end_of(made, reports, "j") == (Status.SUCCEEDED, None)


class ScriptedCalls:
    """Ends stages as drawn, each after so many turns of the loop; keeps what a chain did."""

    def __init__(
        self, of: ServiceGraph, outcomes: dict[str, list[StageReport]], turns: list[int]
    ) -> None:
        self._graph = of
        self._outcomes = {name: iter(each) for name, each in outcomes.items()}
        self._turns = itertools.cycle(turns)
        self.chain = Chain(of, {"prompt": "p"}, "j")
        self.begun: Counter[str] = Counter()
        self.requests: list[tuple[str, int, dict[str, Any]]] = []

    async def perform(self, stage: Stage, request: Any, numbers: Iterator[int]) -> StageReport:
        assert set(self._graph.before(stage.name)) <= self.chain.reports.keys(), "too early"
        self.begun[stage.name] += 1
        assert self.begun[stage.name] <= 20, "it would never end"
        number = next(numbers)
        assert number == self.begun[stage.name], "each job of a stage has its own number"
        self.requests.append((stage.name, number, request))
        outcome = next(self._outcomes[stage.name], report(text=stage.name))
        for _ in range(next(self._turns)):
            await asyncio.sleep(0)
        return outcome

    async def cancel(self) -> None:
        pass

    def run(self) -> None:
        asyncio.run(asyncio.wait_for(self.chain.run(self), 10))  # type: ignore[arg-type]


NAMES = "abcdef"
GO_ON = [StageStatus.SUCCEEDED, StageStatus.SUCCEEDED, StageStatus.SUBSTITUTED, StageStatus.SKIPPED]
TURNS = st.lists(st.integers(0, 5), min_size=6, max_size=6)


def outcomes(statuses: list[StageStatus]) -> st.SearchStrategy[dict[str, list[StageReport]]]:
    answer = {"text": st.text(max_size=3), "good": st.booleans()}
    answer["downstream_black_list"] = st.lists(st.sampled_from(NAMES), max_size=1)
    output = st.fixed_dictionaries(answer)
    drawn = st.builds(lambda s, o: report(s, **o), st.sampled_from(statuses), output)
    return st.fixed_dictionaries({name: st.lists(drawn, max_size=5) for name in NAMES})


@st.composite
def graphs(draw: st.DrawFn) -> ServiceGraph:
    """Draw any graph, with conditions and up to two repeats."""
    made = graph(*(stage(name, build=lambda _, seen: {"seen": sorted(seen)}) for name in NAMES))
    pairs = st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES))
    for before, after in draw(st.lists(pairs, min_size=2, max_size=12)):
        when = draw(st.sampled_from([None, {"good": True}]))
        with contextlib.suppress(GraphError):
            made = made.flow_to(before, after, {"texts[]": "text"}, when)
    for first, last in draw(st.lists(pairs, max_size=4)):
        with contextlib.suppress(GraphError):
            made = made.repeat(first, last, {"good": True}, times=draw(st.integers(1, 3)))
    return made


@settings(deadline=None)
@given(made=graphs(), scripted=outcomes([*GO_ON, *CHAIN_ENDS]), turns=TURNS)
def test_every_chain_ends_and_begins_stages_in_order_and_once_a_repeat(
    made: ServiceGraph, scripted: dict[str, list[StageReport]], turns: list[int]
) -> None:
    calls = ScriptedCalls(made, scripted, turns)
    calls.run()
    reports = calls.chain.reports
    for name in NAMES:
        repeats = (each for each in made.repeats if name in made.between(each.first, each.last))
        assert calls.begun[name] <= 1 + sum(each.times for each in repeats)
    is_over = any(each.status in CHAIN_ENDS for each in reports.values())
    assert is_over or reports.keys() == set(NAMES)
    for name, each in reports.items():
        before = {reports[b].status for b in made.before(name)} if not is_over else set()
        if each.status is StageStatus.NOT_TAKEN:
            assert each.reason
        elif before:
            assert before & {*WENT_WELL, StageStatus.SKIPPED}, "something led to it"
    for each in made.repeats:
        first, last = calls.begun[each.first], calls.begun[each.last]
        assert first == 0 or last <= first, "all of a part is repeated"
        if first and not is_over and unmet(replace(made, repeats=(each,)), reports):
            assert first == 1 + each.times, "it is given up no earlier"
    status, problem = end_of(made, reports, "j")
    assert (status is Status.SUCCEEDED) == (problem is None)
    assert not is_over or status is not Status.SUCCEEDED


@settings(deadline=None)
@given(made=graphs(), scripted=outcomes(GO_ON), turns=st.tuples(TURNS, TURNS))
def test_another_orchestrator_makes_the_same_requests_whatever_ends_first(
    made: ServiceGraph, scripted: dict[str, list[StageReport]], turns: tuple[list[int], list[int]]
) -> None:
    one, other = (ScriptedCalls(made, scripted, each) for each in turns)
    one.run()
    other.run()
    key = operator.itemgetter(0, 1)
    assert sorted(one.requests, key=key) == sorted(other.requests, key=key)
    assert one.chain.reports == other.chain.reports
