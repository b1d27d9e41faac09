"""OPEA's verbs on this broker: `ServiceOrchestrator().add(a).add(b)`, `flow_to`, `schedule`.

    writer = MicroService("prompt-writer", service_type=ServiceType.LLM)
    painter = MicroService("text2image", service_type=ServiceType.TEXT2IMAGE)
    orchestrator = ServiceOrchestrator("my-painter").add(writer).add(painter)
    orchestrator.flow_to(writer, painter)
    MyPainter = orchestrator.component()   # text2image-node serve --component my_module:MyPainter

    async with orchestrator.client("amqp://localhost") as client:
        result_dict, runtime_graph = await orchestrator.schedule({"text": "..."}, client=client)

The names are those of `comps/cores/mega` in OPEA GenAIComps; docs/opea.md says what differs. There
is no second engine here: a graph is served by `MegaService`, and `schedule` is a client of it.
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Self

from contracts.megaservice import (
    MEGASERVICE,
    MegaServiceRequest,
    MegaServiceResult,
    StageReport,
)
from node.client import Client
from orchestrator_example.answer import answers_of
from orchestrator_example.graph import Condition, GraphError, ServiceGraph
from orchestrator_example.mapping import TEXT
from orchestrator_example.megaservice import MegaService
from orchestrator_example.microservice import MicroService, ServiceType
from orchestrator_example.planning import WENT_WELL, obstacle
from orchestrator_example.serving import served

__all__ = ["MicroService", "RuntimeGraph", "ServiceOrchestrator", "ServiceType"]

PROMPT: Final = "prompt"
_TAKES_LLM_PARAMETERS: Final = frozenset({ServiceType.LLM, ServiceType.LVM})


@dataclass(frozen=True, slots=True)
class RuntimeGraph:
    """What was run of a graph, and how it ended; reads like OPEA's `DAG`."""

    graph: ServiceGraph
    result: MegaServiceResult

    def ind_nodes(self) -> list[str]:
        """Name the stages that waited for none."""
        return [stage.name for stage in self.graph.stages if not self.graph.before(stage.name)]

    def all_leaves(self) -> list[str]:
        """Name the stages that none went on with."""
        return [stage.name for stage in self.graph.last()]

    def predecessors(self, name: str) -> list[str]:
        """Name the stages whose answers this one went on with."""
        return list(self.graph.before(name))

    def downstream(self, name: str) -> list[str]:
        """Name the stages that went on with the answer of this one."""
        return list(self.graph.after(name))


class ServiceOrchestrator:
    """Draws a graph with OPEA's verbs; `name` is the queue of the mega-service.

    Each one has a graph of its own, a value that is replaced and never changed.
    """

    def __init__(self, name: str = MEGASERVICE) -> None:
        self.name = name
        self.graph = ServiceGraph()
        self.services: dict[str, MicroService] = {}

    def add(self, service: MicroService) -> Self:
        """Add a service. Raises GraphError when its name is taken."""
        self.graph = self.graph.add(service.stage())
        self.services[service.name] = service
        return self

    def flow_to(
        self,
        from_service: MicroService | str,
        to_service: MicroService | str,
        mapping: Mapping[str, str] | None = None,
        when: Condition | None = None,
    ) -> Self:
        """Let a service wait for another one; see `ServiceGraph.flow_to`.

        Raises GraphError for a circle, an unknown service, or a field that two flows bring.
        """
        before, after = _name(from_service), _name(to_service)
        self.graph = self.graph.flow_to(before, after, mapping, when)
        return self

    def repeat(
        self,
        first: MicroService | str,
        last: MicroService | str,
        until: Condition,
        *,
        times: int = 1,
        vary: Mapping[str, int] | None = None,
    ) -> Self:
        """Run a part again until its last answer is as wanted; see `ServiceGraph.repeat`."""
        self.graph = self.graph.repeat(_name(first), _name(last), until, times=times, vary=vary)
        return self

    def component(self) -> type[MegaService]:
        """Make the component that serves the graph as it is now. Raises GraphError."""
        return served(self.graph, self.name)

    def client(self, *urls: str) -> AbstractAsyncContextManager[Client]:
        """Connect to the nodes that serve the graph."""
        return Client.connect(*urls, service=self.name, result_model=MegaServiceResult)

    def request(
        self, initial_inputs: Mapping[str, Any], llm_parameters: Mapping[str, Any] | None = None
    ) -> MegaServiceRequest:
        """Make the request of a chain of what OPEA's `schedule` takes.

        `text` (or `prompt`) is what the chain begins with; every other input goes to each service
        that waits for none, and `llm_parameters` to those of the types LLM and LVM.
        """
        inputs = dict(initial_inputs)
        prompts = [inputs.pop(name) for name in (TEXT, PROMPT) if name in inputs]
        if len(prompts) != 1:
            raise GraphError(f"initial_inputs need {TEXT!r} or {PROMPT!r}, and not both")
        parameters: dict[str, dict[str, Any]] = {}
        for name, service in self.services.items():
            is_llm = service.service_type in _TAKES_LLM_PARAMETERS
            given = dict(llm_parameters or {}) if is_llm else {}
            if not self.graph.before(name):
                given |= inputs
            if given:
                parameters[name] = given
        return MegaServiceRequest(prompt=prompts[0], parameters=parameters)

    async def schedule(
        self,
        initial_inputs: Mapping[str, Any],
        llm_parameters: Mapping[str, Any] | None = None,
        *,
        client: Client,
        timeout_seconds: float | None = None,
        **submitted: Any,
    ) -> tuple[dict[str, dict[str, Any]], RuntimeGraph]:
        """Run a chain at the nodes that serve it; give the answers by service, and what was run.

        `submitted` are options of `Client.submit`: job_id, deadline_seconds, priority, headers.
        Raises JobNotSucceeded, whose `result` has what the other services answered, and what
        `Client.submit` raises.
        """
        request = self.request(initial_inputs, llm_parameters)
        job_id = await client.submit(request, **submitted)
        result: MegaServiceResult = await client.result(job_id, timeout_seconds)
        return answers_of(result), RuntimeGraph(_as_run(self.graph, result.stages), result)

    def get_all_final_outputs(
        self, result_dict: Mapping[str, dict[str, Any]], runtime_graph: RuntimeGraph
    ) -> dict[str, dict[str, Any]]:
        """Pick the answers that no service went on with."""
        return {name: result_dict[name] for name in runtime_graph.all_leaves()}


def _as_run(graph: ServiceGraph, reports: Mapping[str, StageReport]) -> ServiceGraph:
    """Leave out the stages that gave no answer, and the flows that were not taken."""
    answered = {name for name, report in reports.items() if report.status in WENT_WELL}
    flows = (flow for flow in graph.flows if {flow.before, flow.after} <= answered)
    return ServiceGraph(
        stages=tuple(stage for stage in graph.stages if stage.name in answered),
        flows=tuple(flow for flow in flows if not obstacle(flow, reports[flow.before])),
    )


def _name(service: MicroService | str) -> str:
    return service if isinstance(service, str) else service.name
