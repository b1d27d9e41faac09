"""What runs after what; a circle is refused, whatever the order in which it is drawn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_example.graph import GraphError, ServiceGraph, Stage
from orchestrator_example.kinds import Kinds

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


def test_a_name_is_used_once() -> None:
    with pytest.raises(GraphError, match="already"):
        graph("a").add(Stage("a", "other"))


@pytest.mark.parametrize("name", ["", "a b", "(a", "a>>b", "ä"])
def test_a_name_that_no_flow_could_say_is_refused(name: str) -> None:
    with pytest.raises(GraphError, match="is no name"):
        Stage(name, "service")


def test_graphs_do_not_see_each_other() -> None:
    shared = graph("a", "b")
    one, other = shared.flow_to("a", "b"), shared.flow_to("b", "a")
    assert (one.before("b"), other.before("a"), shared.flows) == (("a",), ("b",), ())


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
