"""From the caller's request and the answers so far to the request of a stage."""

from typing import Any

import pytest

from contracts.message import MAX_SEED
from orchestrator_example.graph import ServiceGraph
from orchestrator_example.kinds import Kinds
from orchestrator_example.mapping import (
    MappingError,
    RefusedParameter,
    fixed_fields,
    holds,
    look_up,
    stage_request,
)
from tests.unit.orchestrator_example.builders import graph, stage

ANSWER = {"images": [{"sha256": "ab", "seed": 7}], "text": None, "a": {"0": "zero"}}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("images.0.seed", 7),
        ("images.0", {"sha256": "ab", "seed": 7}),
        ("text", None),
        ("a.0", "zero"),
    ],
)
def test_a_path_leads_through_fields_and_lists(path: str, found: Any) -> None:
    assert look_up(ANSWER, path) == found


@pytest.mark.parametrize(
    "path", ["images.1", "images.-1", "images.seed", "text.length", "", "images..0", "b"]
)
def test_a_path_to_nowhere_is_an_error_that_names_it(path: str) -> None:
    with pytest.raises(MappingError, match=f"there is no '{path}'"):
        look_up(ANSWER, path)


def test_a_condition_holds_when_every_field_is_as_wanted() -> None:
    assert holds(None, {})
    assert holds({"images.0.seed": 7, "text": None}, ANSWER)
    assert not holds({"images.0.seed": 7, "text": "x"}, ANSWER)
    assert not holds({"missing": None}, ANSWER), "what is not there is nothing, not null"


def test_a_condition_may_be_a_call() -> None:
    assert holds(lambda answer: answer["a"]["0"] == "zero", ANSWER)
    assert not holds(lambda answer: answer["missing"] > 0, ANSWER)
    assert not holds(lambda answer: answer["images"][3], ANSWER)
    assert not holds(lambda answer: answer["text"] > 0.5, ANSWER), "it cannot be compared"
    assert not holds(lambda answer: answer["text"].lower() == "x", ANSWER)
    with pytest.raises(ZeroDivisionError):
        holds(lambda _: 1 // 0, ANSWER)


def test_parameters_are_the_graphs_then_the_callers_then_what_flows_in() -> None:
    made = graph("a", stage("b", parameters={"x": 1, "y": 1, "text": 1}), flow="a >> b")
    request = {"prompt": "p", "parameters": {"b": {"y": 2, "text": 2}, "a": {"z": 3}}}
    fields = stage_request(made, made.stage("b"), request, {"a": {"text": 3}})
    assert fields == {"x": 1, "y": 2, "text": 3}


def test_text_that_nothing_brings_is_the_prompt() -> None:
    made = graph("a", stage("b", parameters={"text": "fixed"}), flow="a >> b")
    request = {"prompt": "p"}
    assert stage_request(made, made.stage("a"), request, {}) == {"text": "p"}
    assert stage_request(made, made.stage("b"), request, {}) == {"text": "fixed"}
    assert stage_request(made, made.stage("a"), {}, {}) == {}


def test_a_caller_cannot_set_what_flows_in_or_what_the_prompt_is_for() -> None:
    made = graph("a", stage("b", kinds=Kinds({"text": "words[]"})))
    made = made.flow_to("a", "b", {"image": "images.0", "more[]": "text"})
    assert fixed_fields(made, made.stage("a")) == {"text"}
    assert fixed_fields(made, made.stage("b")) == {"image", "more", "words"}


def collecting(**given: Any) -> ServiceGraph:
    made = graph("a", "b", stage("c", **given))
    return made.flow_to("a", "c", {"texts[]": "text"}).flow_to("b", "c", {"texts[]": "text"})


def test_a_list_collects_what_flows_bring_in_the_order_of_the_flows() -> None:
    made = collecting(kinds=Kinds())
    answers = {"b": {"text": "B"}, "a": {"text": "A"}}
    assert stage_request(made, made.stage("c"), {}, answers) == {"texts": ["A", "B"]}
    assert stage_request(made, made.stage("c"), {}, {"b": {"text": "B"}}) == {"texts": ["B"]}
    assert stage_request(made, made.stage("c"), {}, {}) == {}


def test_a_list_of_the_graph_is_added_to_and_never_changed() -> None:
    made = collecting(kinds=Kinds(), parameters={"texts": ["first"]})
    for _ in range(2):
        fields = stage_request(made, made.stage("c"), {}, {"a": {"text": "A"}})
        assert fields == {"texts": ["first", "A"]}
    assert made.stage("c").parameters == {"texts": ["first"]}


def test_a_list_that_no_flow_filled_has_the_prompt() -> None:
    made = collecting(kinds=Kinds({"text": "texts[]"}))
    request = {"prompt": "p"}
    assert stage_request(made, made.stage("c"), request, {}) == {"texts": ["p"]}
    answers = {"a": {"text": "A"}}
    assert stage_request(made, made.stage("c"), request, answers) == {"texts": ["A"]}


def test_a_flow_that_is_not_taken_brings_nothing() -> None:
    made = graph("a", "b", "c").flow_to("a", "c", {"left": "text"}, when={"good": True})
    made = made.flow_to("b", "c", {"right": "text"})
    answers = {"a": {"text": "A", "good": False}, "b": {"text": "B"}}
    fields = stage_request(made, made.stage("c"), {"prompt": "p"}, answers)
    assert fields == {"right": "B", "text": "p"}


def test_what_a_flow_needs_and_does_not_find_is_named() -> None:
    made = graph("a", "b").flow_to("a", "b", {"image": "images.0"})
    with pytest.raises(
        MappingError, match=r"'a' gives 'b' its 'image', but there is no 'images.0'"
    ):
        stage_request(made, made.stage("b"), {}, {"a": {"images": []}})


def test_a_call_makes_fields_of_the_request_and_of_the_answers_before_it() -> None:
    seen: list[Any] = []

    def build(request: Any, answers: Any) -> dict[str, Any]:
        seen.append((request["prompt"], dict(answers)))
        return {"text": "mine", "more": 1}

    made = graph("a", "b", stage("c", build=build), "aside", flow="a >> b >> c")
    answers = {name: {"text": name} for name in ("a", "b", "aside")}
    fields = stage_request(made, made.stage("c"), {"prompt": "p"}, answers)
    assert fields == {"text": "mine", "more": 1}
    assert seen == [("p", {"a": {"text": "a"}, "b": {"text": "b"}})], (
        "what ended by chance before is not seen: each orchestrator makes the same request"
    )


@pytest.mark.parametrize("wrong", [lambda *_: {}["x"], lambda *_: None.x, lambda *_: int("x")])  # type: ignore[attr-defined]
def test_a_call_that_cannot_make_a_request_fails_the_stage(wrong: Any) -> None:
    made = graph(stage("a", build=wrong))
    with pytest.raises(MappingError, match="the request of 'a' cannot be built: "):
        stage_request(made, made.stage("a"), {}, {})


def test_a_call_sees_answers_in_the_order_of_the_graph_whatever_ended_first() -> None:
    join = stage("join", build=lambda _, answers: {"texts": list(answers)})
    made = graph("a", "b", join).flow_to("a", "join", {}).flow_to("b", "join", {})
    for order in (("a", "b"), ("b", "a")):
        answers = {name: {"text": name} for name in order}
        assert stage_request(made, join, {}, answers)["texts"] == ["a", "b"]


def test_a_parameter_that_a_call_makes_is_refused_and_one_of_the_graph_is_made_anew() -> None:
    made = graph(stage("a", parameters={"seed": 1}, build=lambda *_: {"seed": 43}))
    assert stage_request(made, made.stage("a"), {"prompt": "p"}, {})["seed"] == 43
    with pytest.raises(RefusedParameter, match="'seed' of stage 'a' is made by the graph"):
        stage_request(made, made.stage("a"), {"parameters": {"a": {"seed": 7}}}, {})


def repeated(**parameters: Any) -> list[dict[str, Any]]:
    """Make the requests of a stage that is repeated twice."""
    made = graph(stage("a", kinds=Kinds()), "b").flow_to("a", "b", {})
    made = made.repeat("a", "b", {"good": True}, times=2, vary={"seed": 10, "n": 1})
    request = {"parameters": {"a": parameters}}
    return [stage_request(made, made.stage("a"), request, {}, number) for number in range(3)]


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({"seed": 7}, [{"seed": 7}, {"seed": 17}, {"seed": 27}]),
        ({"seed": [1, 2]}, [{"seed": [1, 2]}, {"seed": [11, 12]}, {"seed": [21, 22]}]),
        ({"seed": 0, "n": 1}, [{"seed": 0, "n": 1}, {"seed": 10, "n": 2}, {"seed": 20, "n": 3}]),
        ({}, [{}, {}, {}]),
        ({"seed": None}, [{"seed": None}] * 3),
        ({"seed": True}, [{"seed": True}] * 3),
        ({"seed": "7"}, [{"seed": "7"}] * 3),
        ({"seed": MAX_SEED}, [{"seed": MAX_SEED}, {"seed": 9}, {"seed": 19}]),
        ({"seed": MAX_SEED - 10}, [{"seed": MAX_SEED - 10}, {"seed": MAX_SEED}, {"seed": 9}]),
        ({"n": -1}, [{"n": -1}, {"n": 0}, {"n": 1}]),
        ({"n": MAX_SEED + 1}, [{"n": MAX_SEED + 1}, {"n": MAX_SEED + 2}, {"n": MAX_SEED + 3}]),
    ],
)
def test_whole_numbers_are_varied_with_each_repeat_and_nothing_else(given: Any, seen: Any) -> None:
    assert repeated(**given) == seen


def test_only_the_first_stage_of_a_repeat_varies() -> None:
    made = graph("a", stage("b", parameters={"seed": 1}), flow="a >> b")
    made = made.repeat("a", "b", {"good": True}, vary={"seed": 1})
    assert stage_request(made, made.stage("b"), {}, {"a": {"text": "A"}}, 1)["seed"] == 1


def test_a_step_back_from_zero_is_less_than_zero() -> None:
    made = graph(stage("a", parameters={"n": 1}), "b", flow="a >> b")
    made = made.repeat("a", "b", {"good": True}, vary={"n": -2})
    assert stage_request(made, made.stage("a"), {}, {}, 1)["n"] == -1
