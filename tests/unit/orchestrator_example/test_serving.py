"""The component of a graph that is not written as a class."""

import pytest

from node.component import Component
from orchestrator_example.graph import GraphError, ServiceGraph
from orchestrator_example.megaservice import MegaService
from orchestrator_example.serving import served
from tests.unit.orchestrator_example.builders import graph, stage

LINE = graph("first", stage("second"), flow="first >> second")


def test_a_graph_is_served_under_its_own_name_and_description() -> None:
    made = served(LINE, "my-painter", "Paints")
    assert issubclass(made, Component)
    assert (made.name, made.description, made.graph) == ("my-painter", "Paints", LINE)
    other = served(graph("only"), "other")
    assert (made.graph, other.description) == (LINE, MegaService.description)


@pytest.mark.parametrize(
    ("of", "name", "why"),
    [(ServiceGraph(), "mega", "is empty; add a service"), (LINE, "my painter", "is no name")],
)
def test_a_graph_that_cannot_be_served_is_refused(of: ServiceGraph, name: str, why: str) -> None:
    with pytest.raises(GraphError, match=why):
        served(of, name)
