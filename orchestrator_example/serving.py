"""The component of a graph that is not written as a class."""

from orchestrator_example.graph import GraphError, ServiceGraph, Stage
from orchestrator_example.megaservice import MegaService


def served(graph: ServiceGraph, name: str, description: str = "") -> type[MegaService]:
    """Make the component class of a graph. Raises GraphError when there is nothing to serve."""
    if not graph.stages:
        raise GraphError(f"the graph of {name!r} is empty; add a service first")
    Stage(name)  # a name that no queue could have is refused here, too
    fields = {"graph": graph, "name": name}
    if description:
        fields["description"] = description
    return type("ServedGraph", (MegaService,), fields)
