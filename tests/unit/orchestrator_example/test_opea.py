"""OPEA's verbs draw graphs of ours, and what they get wrong there is repaired here."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.megaservice import MegaServiceResult, StageReport, StageStatus
from contracts.result import Status
from node.client import Client
from orchestrator_example.graph import GraphError
from orchestrator_example.kinds import Kinds
from orchestrator_example.megaservice import MegaService
from orchestrator_example.opea import MicroService, RuntimeGraph, ServiceOrchestrator, ServiceType
from orchestrator_example.policy import OnFailure, Policy
from tests.unit.orchestrator_example.builders import failed, report

WRITER = MicroService("writer", service="prompt-writer", service_type=ServiceType.LLM)
PAINTER = MicroService("text2image", service_type=ServiceType.TEXT2IMAGE)
JUDGE = MicroService("judge", service_type=ServiceType.LVM)


def drawn() -> ServiceOrchestrator:
    orchestrator = ServiceOrchestrator("my-painter").add(WRITER).add(PAINTER).add(JUDGE)
    return orchestrator.flow_to(WRITER, PAINTER).flow_to(PAINTER, "judge")


def flows(orchestrator: ServiceOrchestrator) -> dict[tuple[str, str], Any]:
    return {(flow.before, flow.after): flow.mapping for flow in orchestrator.graph.flows}


def test_services_and_flows_are_added_by_object_or_by_name() -> None:
    assert flows(drawn()) == {
        ("writer", "text2image"): {"prompt": "text"},
        ("text2image", "judge"): {"image": "images.0"},
    }
    assert drawn().graph.services() == ["judge", "prompt-writer", "text2image"]


def test_what_opea_only_logs_is_an_error() -> None:
    with pytest.raises(GraphError, match="a circle: "):
        drawn().flow_to(JUDGE, WRITER)
    with pytest.raises(GraphError, match="already"):
        drawn().add(WRITER)
    with pytest.raises(GraphError, match="no stage 'stranger'"):
        drawn().flow_to(WRITER, MicroService("stranger"))


def test_equal_keys_of_two_services_never_overwrite_each_other() -> None:
    orchestrator = ServiceOrchestrator().add(MicroService("a", endpoint="/v1/a"))
    orchestrator.add(MicroService("b", endpoint="/v1/b")).add(MicroService("c", endpoint="/v1/c"))
    orchestrator.flow_to("a", "c")
    with pytest.raises(GraphError, match=r"both give 'text' of 'c'.*collect them in 'text\[\]'"):
        orchestrator.flow_to("b", "c")
    assert flows(orchestrator).keys() == {("a", "c")}, "what is refused changes nothing"
    orchestrator.flow_to("b", "c", {"other": "output.text"})


def test_two_orchestrators_in_one_process_share_nothing() -> None:
    one, other = ServiceOrchestrator("one").add(WRITER), ServiceOrchestrator("other")
    first = one.component()
    one.add(PAINTER)
    assert (other.graph.stages, other.services) == ((), {})
    assert [stage.name for stage in first.graph.stages] == ["writer"], "it serves what it was"
    assert [stage.name for stage in one.component().graph.stages] == ["writer", "text2image"]
    assert MegaService.name != first.name == "one"


def test_an_empty_graph_is_not_served() -> None:
    with pytest.raises(GraphError, match="'megaservice' is empty"):
        ServiceOrchestrator().component()


def test_initial_inputs_go_to_the_first_services_and_llm_parameters_to_language_models() -> None:
    orchestrator = drawn().add(MicroService("aside"))
    request = orchestrator.request({"text": "a cat", "seed": 1}, {"max_tokens": 9})
    assert request.prompt == "a cat"
    assert request.parameters == {
        "writer": {"max_tokens": 9, "seed": 1},
        "judge": {"max_tokens": 9},
        "aside": {"seed": 1},
    }
    assert orchestrator.request({"prompt": "a cat"}).parameters == {}


@pytest.mark.parametrize("inputs", [{}, {"seed": 1}, {"text": "a", "prompt": "b"}])
def test_inputs_without_one_text_are_refused(inputs: dict[str, Any]) -> None:
    with pytest.raises(GraphError, match="'text' or 'prompt', and not both"):
        drawn().request(inputs)


def test_a_text_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValidationError):
        drawn().request({"text": 5})


class AnsweringClient:
    """Answers every request as a test says."""

    def __init__(self, **stages: StageReport) -> None:
        self._stages = stages
        self.submitted: dict[str, Any] = {}

    async def submit(self, request: Any, **options: Any) -> str:
        inspect.signature(Client.submit).bind(self, request, **options)
        self.submitted = {"request": request, **options}
        return "j"

    async def result(self, job_id: str, timeout_seconds: float | None = None) -> MegaServiceResult:
        return MegaServiceResult(job_id=job_id, status=Status.SUCCEEDED, stages=self._stages)


def branching() -> ServiceOrchestrator:
    text = Kinds({"text": "text"}, {"text": "text"})
    orchestrator = ServiceOrchestrator()
    for name in "abcd":
        policy = Policy(on_failure=OnFailure.SKIP)
        orchestrator.add(MicroService(name, kinds=text, policy=policy))
    orchestrator.flow_to("a", "b").flow_to("a", "c", when={"good": True})
    return orchestrator.flow_to("b", "d", {"one": "text"}).flow_to("c", "d", {"two": "text"})


async def scheduled(**stages: StageReport) -> tuple[dict[str, Any], RuntimeGraph]:
    client: Any = AnsweringClient(**stages)
    return await branching().schedule({"text": "x"}, client=client)


async def test_answers_are_told_apart_by_service_and_the_graph_shows_what_was_run() -> None:
    result_dict, ran = await scheduled(
        a=report(text="A", good=False),
        b=report(text="B"),
        c=report(StageStatus.NOT_TAKEN),
        d=report(text="D"),
    )
    assert result_dict.keys() == {"a", "b", "d"}
    assert result_dict["b"] == {"text": "B"}
    assert (ran.ind_nodes(), ran.all_leaves()) == (["a"], ["d"])
    assert (ran.downstream("a"), ran.predecessors("d")) == (["b"], ["b"])
    assert branching().get_all_final_outputs(result_dict, ran) == {"d": {"text": "D"}}


async def test_where_a_branch_ends_early_its_last_answer_is_a_final_one() -> None:
    result_dict, ran = await scheduled(
        a=report(text="A", good=True, downstream_black_list=["c"]),
        b=failed().model_copy(update={"status": StageStatus.SKIPPED}),
        c=report(StageStatus.NOT_TAKEN),
        d=report(StageStatus.NOT_TAKEN),
    )
    assert ran.all_leaves() == ["a"]
    assert branching().get_all_final_outputs(result_dict, ran).keys() == {"a"}
    assert ran.result.stages["b"].error is not None


async def test_a_flow_that_was_not_taken_is_not_in_the_graph_that_was_run() -> None:
    made = ServiceOrchestrator()
    for name in "abc":
        made.add(MicroService(name))
    made.flow_to("a", "c", {}, when={"good": True}).flow_to("b", "c", {})
    client: Any = AnsweringClient(a=report(good=False), b=report(), c=report())
    _, ran = await made.schedule({"text": "x"}, client=client)
    assert (ran.predecessors("c"), ran.all_leaves()) == (["b"], ["a", "c"])


async def test_options_of_a_chain_are_passed_on() -> None:
    client: Any = AnsweringClient()
    options = {"job_id": "mine", "deadline_seconds": 5.0, "priority": 9, "headers": {"a": 1}}
    await drawn().schedule({"text": "x"}, {"max_tokens": 9}, client=client, **options)
    request = client.submitted.pop("request")
    assert request == drawn().request({"text": "x"}, {"max_tokens": 9})
    assert client.submitted == options


def test_the_program_of_the_documentation_draws_its_graph() -> None:
    text = (Path(__file__).parents[3] / "docs" / "opea.md").read_text()
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (program,) = (each for each in programs if "MyPainter" in each)
    namespace: dict[str, Any] = {}
    exec(program, namespace)
    assert namespace["MyPainter"].name == "my-painter"
    assert namespace["MyPainter"].graph.order() == ["prompt-writer", "text2image"]
