"""What runs after what; a circle is refused, whatever the order in which it is drawn."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_example.graph import GraphError, ServiceGraph, Stage
from orchestrator_example.kinds import Kinds
from orchestrator_example.policy import OnFailure, Policy

TEXT = Kinds({"text": "texts[]"}, {"text": "text"})


def graph(*names: str) -> ServiceGraph:
    made = ServiceGraph()
    for name in names:
        made = made.add(Stage(name, f"service-{name}", kinds=TEXT))
    return made


def startable(of: ServiceGraph, *ended: str, begun: tuple[str, ...] = ()) -> list[str]:
    return [stage.name for stage in of.startable(ended, begun)]


def test_a_stage_starts_when_all_that_flow_into_it_have_ended() -> None:
    made = graph("a", "b", "c").flow_to("a", "c").flow_to("b", "c")
    assert startable(made) == ["a", "b"]
    assert startable(made, "a", begun=("b",)) == []
    assert startable(made, "a", "b") == ["c"]
    assert startable(made, "a", "b", "c") == []
    assert made.before("c") == ("a", "b")
    assert made.after("a") == ("c",)
    assert [stage.name for stage in made.last()] == ["c"]


def test_a_mega_flow_is_read_as_opea_writes_it() -> None:
    made = graph("s1", "s2", "s3", "s5").follow(["(s1, s5) >> s2 >> s3", "s1 >> s3"])
    drawn = {(flow.before, flow.after) for flow in made.flows}
    assert drawn == {("s1", "s2"), ("s5", "s2"), ("s2", "s3"), ("s1", "s3")}
    assert made.follow(["s1>>s2"]) == made


@pytest.mark.parametrize(
    "line", ["a >>", ">> b", "a > b", "(a, b >> c", "a >> b c", "", "(a,) >> b"]
)
def test_what_is_no_flow_is_refused(line: str) -> None:
    with pytest.raises(GraphError, match=r"is no flow|no stage"):
        graph("a", "b", "c").follow([line])


def test_a_circle_is_refused_and_named() -> None:
    made = graph("a", "b", "c").follow(["a >> b >> c"])
    with pytest.raises(GraphError, match="a circle: "):
        made.flow_to("c", "a")
    with pytest.raises(GraphError, match="a circle: a >> a"):
        made.flow_to("a", "a")
    assert made.order() == ["a", "b", "c"]


def test_an_unknown_stage_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(GraphError, match="no stage 'x'; there are: a, b"):
        graph("a", "b").flow_to("a", "x")


@pytest.mark.parametrize("line", ["c", "a >> c", "(a, c) >> b"])
def test_a_flow_names_only_stages_that_there_are(line: str) -> None:
    with pytest.raises(GraphError, match="no stage 'c'; there are: a, b"):
        graph("a", "b").follow([line])
    assert graph("a").follow(["a"]) == graph("a"), "as OPEA writes a graph of one"


def test_a_name_is_used_once() -> None:
    with pytest.raises(GraphError, match="already"):
        graph("a").add(Stage("a", "other"))
    with pytest.raises(GraphError, match=r"'a\.b' already; 'a-b' needs another name"):
        graph("a.b").add(Stage("a-b", "other"))


@pytest.mark.parametrize("name", ["", "a b", "(a", "a>>b", "ä"])
def test_a_name_that_no_flow_could_say_is_refused(name: str) -> None:
    with pytest.raises(GraphError, match="is no name"):
        Stage(name, "service")


def test_graphs_do_not_see_each_other() -> None:
    shared = graph("a", "b")
    one, other = shared.flow_to("a", "b"), shared.flow_to("b", "a")
    assert (one.before("b"), other.before("a"), shared.flows) == (("a",), ("b",), ())


@settings(deadline=None)
@given(flows=st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde")), max_size=15))
def test_whatever_is_drawn_every_stage_runs_once_and_after_its_predecessors(
    flows: list[tuple[str, str]],
) -> None:
    made = graph(*"abcde")
    for before, after in flows:
        try:
            made = made.flow_to(before, after)
        except GraphError:
            continue
    ended: list[str] = []
    while ready := startable(made, *ended):
        assert all(set(made.before(name)) <= set(ended) for name in ready)
        ended += ready
    assert sorted(ended) == list("abcde")


def test_what_a_line_of_flows_carries_is_what_each_of_them_carries() -> None:
    made = graph("a", "b", "c").follow(["(a, b) >> c"], {"all[]": "text"}, {"good": True})
    assert [flow.mapping for flow in made.flows] == [{"all[]": "text"}] * 2
    assert [flow.when for flow in made.flows] == [{"good": True}] * 2
    with pytest.raises(GraphError, match="'a' flows to 'c' already, and otherwise"):
        made.follow(["a >> c"], {"other": "text"})
    assert made.follow(["a >> c"]) == made, "what is said in general changes nothing"


@pytest.mark.parametrize(
    ("one", "other"), [("text", "text"), ("text", "text[]"), ("text[]", "text")]
)
def test_two_flows_never_overwrite_each_other(one: str, other: str) -> None:
    made = graph("a", "b", "c").flow_to("a", "c", {one: "text"})
    with pytest.raises(GraphError, match=r"'b' and 'a' both give 'text' of 'c'; .*'text\[\]'"):
        made.flow_to("b", "c", {other: "text"})
    made.flow_to("b", "c", {"another": "text"})


def test_a_flow_between_unlike_services_says_what_it_carries() -> None:
    made = ServiceGraph().add(Stage("a", "unknown")).add(Stage("b", "unlike"))
    with pytest.raises(GraphError, match="what of 'a' goes to 'b'"):
        made.flow_to("a", "b")
    assert made.flow_to("a", "b", {}).flows[0].mapping == {}
    built = ServiceGraph().add(Stage("a")).add(Stage("b", build=lambda *_: {}))
    assert built.flow_to("a", "b").flows[0].mapping == {}


def test_a_part_is_repeated_only_where_nothing_else_goes_on_with_it() -> None:
    made = graph("a", "b", "c", "d").follow(["a >> b >> c"])
    leak = "'a' is repeated, but flows to 'd' as well; let 'b' flow there"
    with pytest.raises(GraphError, match=leak):
        made.flow_to("a", "d").repeat("a", "b", {"good": True})
    repeated = made.repeat("a", "b", {"good": True})
    with pytest.raises(GraphError, match=leak):
        repeated.flow_to("a", "d")
    assert repeated.flow_to("b", "d").between("a", "b") == {"a", "b"}


def test_a_repeat_that_makes_no_sense_is_refused() -> None:
    made = graph("a", "b", "c", "d").follow(["a >> b >> c >> d"])
    with pytest.raises(GraphError, match="no flow leads from 'c' to 'a'"):
        made.repeat("c", "a", {"good": True})
    with pytest.raises(GraphError, match="no stage 'x'"):
        made.repeat("a", "x", {"good": True})
    with pytest.raises(GraphError, match="repeated 0 times"):
        made.repeat("a", "b", {"good": True}, times=0)
    with pytest.raises(GraphError, match="'b' is in two repeats"):
        made.repeat("a", "b", {"good": True}).repeat("b", "c", {"good": True})
    assert len(made.repeat("a", "b", {"x": 1}).repeat("c", "d", {"x": 1}).repeats) == 2
    assert made.repeat("b", "b", {"good": True}).between("b", "b") == {"b"}


def test_what_lies_between_two_stages_is_on_a_way_from_one_to_the_other() -> None:
    made = graph(*"abcdef").follow(["a >> (b, c) >> d >> e", "f >> d"])
    assert made.between("a", "d") == set("abcd")
    assert made.between("a", "c") == set("ac")
    assert made.between("d", "a") == set()
    assert made.below("a") == set("bcde")


def test_every_service_that_a_graph_needs_is_named_fallbacks_included() -> None:
    made = ServiceGraph().add(Stage("a", "one", policy=Policy(fallback="spare")))
    assert made.add(Stage("b", "one")).services() == ["one", "spare"]


def test_a_service_is_needed_unless_a_condition_or_a_policy_goes_round_it() -> None:
    skipped = Policy(on_failure=OnFailure.SKIP)
    graph = (
        ServiceGraph()
        .add(Stage("guardrail"))
        .add(Stage("writer", "prompt-writer"))
        .add(Stage("spare", "slow", policy=Policy(fallback="fast")))
        .add(Stage("captioner", policy=skipped))
        .add(Stage("upscaler"))
        .add(Stage("printer"))
        .flow_to("guardrail", "writer", {})
        .flow_to("writer", "spare", {})
        .flow_to("writer", "captioner", {})
        .flow_to("writer", "upscaler", {}, when=bool)
        .flow_to("upscaler", "printer", {})
    )
    assert graph.needed() == {"guardrail", "prompt-writer"}
