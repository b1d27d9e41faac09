"""A graph from a file: OPEA's format as it is, our additions, and every mistake at its place."""

import re
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from node.component import ComponentLoader, ComponentRegistry
from node.errors import SetupError
from node.settings import Settings
from orchestrator_example import graph_file
from orchestrator_example.graph import GraphError, Repeat
from orchestrator_example.graph_file import GraphFile, read_graph
from orchestrator_example.kinds import Kinds
from orchestrator_example.policy import OnFailure, Policy

OPEA = """
opea_micro_services:
  s1:
    endpoint: http://localhost:8081/v1/add
  s2:
    endpoint: /v1/add
    port: 8082
  s3: {endpoint: "http://elsewhere:8083/v1/add"}
  s4: {endpoint: "http://elsewhere:8084/v1/add"}

opea_mega_service:
  port: 8000
  mega_flow:
    - s1 >> (s2, s3)
    - s3 >> s4
"""

OURS = """
opea_micro_services:
  guardrail:
  writer:
    service: prompt-writer
    service_type: LLM
    parameters: {max_new_tokens: 40}
    policy: {timeout_seconds: 30, retries: 1, fallback: other, on_failure: substitute,
             substitute: {text: "a cat"}}
  left: {service: text2image}
  right: {service: text2image}
  judge:
    service: captioner
    kinds: {takes: {text: prompt}, gives: {text: text}}
opea_mega_service:
  name: my-painter
  description: Paints
  mega_flow:
    - guardrail >> writer
    - writer >> (left, right): {when: {language: en, "parts.0": true}}
    - (left, right) >> judge: {mapping: {"images[]": images.0}}
  repeats:
    - {first: writer, last: judge, until: {matches: true}, times: 2, vary: {seed: 1}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "graph.yaml"


def read(path: Path, text: str) -> GraphFile:
    path.write_text(text)
    return read_graph(path)


def test_opeas_format_is_read_as_it_is(path: Path) -> None:
    with capture_logs() as logs:
        file = read(path, OPEA)
    assert {(flow.before, flow.after) for flow in file.graph.flows} == {
        ("s1", "s2"),
        ("s1", "s3"),
        ("s3", "s4"),
    }
    assert {tuple(flow.mapping.items()) for flow in file.graph.flows} == {
        (("text", "output.text"),)
    }
    assert file.services["s2"].url == "http://localhost:8082/v1/add"
    assert file.name == "megaservice"
    assert [each["event"] for each in logs] == ["graph.port_not_used"], "nothing goes unsaid"


def test_without_a_flow_all_services_run_in_parallel(path: Path) -> None:
    file = read(path, "opea_micro_services: {s1: , s2: }")
    assert [stage.name for stage in file.graph.startable([])] == ["s1", "s2"]


def test_stages_have_services_parameters_and_policies(path: Path) -> None:
    file = read(path, OURS)
    writer = file.graph.stage("writer")
    assert (file.name, file.description, writer.service) == (
        "my-painter",
        "Paints",
        "prompt-writer",
    )
    assert writer.parameters == {"max_new_tokens": 40}
    instead = {"text": "a cat"}
    assert writer.policy == Policy(30, 1, "other", OnFailure.SUBSTITUTE, instead)
    assert file.graph.stage("judge").kinds == Kinds({"text": "prompt"}, {"text": "text"})
    assert file.graph.stage("guardrail").service == "guardrail"


def test_flows_have_mappings_and_conditions(path: Path) -> None:
    graph = read(path, OURS).graph
    assert [flow.when for flow in graph.flows_into("left")] == [{"language": "en", "parts.0": True}]
    assert [flow.mapping for flow in graph.flows_into("judge")] == [{"images[]": "images.0"}] * 2
    assert [flow.mapping for flow in graph.flows_into("writer")] == [{"text": "text"}]
    assert graph.repeats == (Repeat("writer", "judge", {"matches": True}, 2, {"seed": 1}),)


SERVICES = "opea_micro_services: {a: {port: 1}, b: {port: 2}, c: {port: 3}}\n"
MEGA = SERVICES + "opea_mega_service:\n  "


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", 1, "opea_micro_services: Field required"),
        ("- a", 1, "valid dictionary$"),
        ("{}", 1, "opea_micro_services: Field required"),
        ("opea_micro_services: {}", 1, "opea_micro_services: .*at least 1 item"),
        ("a: 1\n" + SERVICES, 1, "no key 'a'; there are: opea_micro_services, opea_mega_service"),
        (
            "opea_micro_services:\n  a:\n   prot: 1",
            2,
            r"services\.a: no key 'prot'; there are: end",
        ),
        ("opea_micro_services:\n  a: 5", 2, r"opea_micro_services\.a: .*valid dictionary$"),
        ("opea_micro_services:\n  1: {}", 2, "opea_micro_services.1.*valid string"),
        ("opea_micro_services:\n  'a b': {}", 2, "'a b' is no name"),
        ("opea_micro_services:\n  a:\n    port: 70000", 3, r"a\.port: .*less than or equal"),
        (
            "opea_micro_services:\n  a:\n    service_type: X",
            3,
            r"service_type: Input should be 'GATE",
        ),
        ("opea_micro_services:\n  a: {}\n  a: {}", 3, "'a' is there twice"),
        ("opea_micro_services:\n  a: {}\n  ? [b]\n  : {}", 3, "twice, or no word"),
        ("opea_micro_services:\n  a.b: {}\n  a-b: {}", 3, "'a-b' needs another name"),
        (
            "opea_micro_services:\n a:\n  policy:\n   tries: 1",
            3,
            r"a\.policy: no key 'tries'; there are: timeout_seconds, retries, fallback, on_failure",
        ),
        ("opea_micro_services:\n a:\n  policy: {retries: -1}", 3, "retries is 0 or more"),
        ("opea_micro_services:\n a:\n  policy: {retries: x}", 3, r"policy\.retries: .*integer"),
        ("opea_micro_services:\n a:\n  policy: {on_failure: retry}", 3, "'fail', 'skip' or"),
        ("opea_micro_services:\n a:\n  policy: {on_failure: substitute}", 3, "which needs it"),
        ("opea_micro_services:\n a:\n  policy: {timeout_seconds: .inf}", 3, "read as a float; put"),
        ("opea_micro_services:\n a:\n  parameters: {from: 2026-01-31}", 3, "read as a timestamp"),
        ("opea_micro_services:\n a:\n  parameters: {from: 2026-13-51}", 3, "read as a timestamp"),
        ("opea_micro_services:\n a:\n  parameters: !!python/name:os.system x", 3, "is read as a"),
        ("opea_micro_services:\n a:\n  parameters: &x {y: *x}", 3, "cyclic reference"),
        ("opea_micro_services:\n a:\n  kinds: {take: {}}", 3, r"a\.kinds: no key 'take'"),
        (MEGA + "mega_flows: []", 2, "opea_mega_service: no key 'mega_flows'; there are: name, "),
        (MEGA + "name: my painter", 3, r"opea_mega_service\.name: 'my painter' is no name"),
        (MEGA + "mega_flow: a >> b", 3, r"opea_mega_service\.mega_flow: .*list"),
        (MEGA + "mega_flow:\n  - a >> b\n  - b >> d", 5, r"mega_flow\.1: no stage 'd'"),
        (MEGA + "mega_flow:\n  - a > b", 4, r"mega_flow\.0: 'a > b' is no flow; write one as"),
        (MEGA + "mega_flow:\n  - a >> b\n  - b >> a", 5, r"mega_flow\.1: a circle: "),
        (MEGA + "mega_flow:\n  - (a, b) >> c", 4, r"both give 'text' of 'c'"),
        (MEGA + "mega_flow:\n  - 5", 4, r"mega_flow\.0: a flow is 'a >> b', or 'a >> b: \{mapp"),
        (MEGA + "mega_flow:\n  - a >> b: {maps: 1}", 4, r"no key 'maps'; there are: mapping, when"),
        (MEGA + "mega_flow:\n  - a >> b: {mapping: {x: 1}}", 4, r"mapping\.x: .*valid string"),
        (MEGA + "repeats:\n  - {first: a}", 4, r"repeats\.0\.last: Field required"),
        (MEGA + "repeats:\n  - {first: a, last: b, until: {}}", 4, r"repeats\.0\.until: "),
        (MEGA + "repeats:\n  - {first: a, last: b, until: {x: 1}}", 4, "no flow leads from 'a'"),
        (SERVICES + "a: [", 2, "expected the node content"),
        ("\tx: 1", 1, "cannot start any token"),
        ("a: *b", 1, "undefined alias 'b'"),
        ("a: 1\n---\nb: 1", 2, "but found another document"),
    ],
)
def test_a_mistake_is_told_with_its_file_its_line_and_what_is_wrong(
    path: Path, text: str, line: int, why: str
) -> None:
    with pytest.raises(GraphError) as refused:
        read(path, text)
    told = str(refused.value)
    assert told.startswith(f"{path}, line ")
    assert re.search(why, told), told
    assert told.startswith(f"{path}, line {line}: "), told


def test_every_mistake_in_the_fields_is_told_at_once(path: Path) -> None:
    with pytest.raises(GraphError, match=r"a\.port.*; .*b\.policy\.retries"):
        read(path, "opea_micro_services: {a: {port: x}, b: {policy: {retries: x}}}")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, content in ((tmp_path / "no.yaml", None), (tmp_path / "bad.yaml", b"\xff\xfe\x00")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(GraphError, match=f"{path}: it cannot be read: "):
            read_graph(path)
    (tmp_path / "odd.yaml").write_bytes(b"a: \x07")
    with pytest.raises(GraphError, match=r"odd\.yaml: it is no YAML: "):
        read_graph(tmp_path / "odd.yaml")
    (tmp_path / "deep.yaml").write_text("[" * 5000)
    with pytest.raises(GraphError, match=r"deep\.yaml: it is no YAML: "):
        read_graph(tmp_path / "deep.yaml")


def built(name: str, **settings: Any) -> Any:
    reference = f"{graph_file.__name__}:{name}"
    return ComponentLoader(ComponentRegistry(), Settings(**settings)).build(reference)


def test_a_node_serves_the_file_that_the_environment_names(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(OURS)
    monkeypatch.setenv("MEGASERVICE_GRAPH", str(path))
    component = built("from_file")
    assert (component.name, component.description) == ("my-painter", "Paints")
    assert component.graph == read_graph(path).graph
    path.write_text(OPEA)
    assert built("from_file").graph != component.graph, "two graphs in one process"


def test_a_node_bridges_to_a_service_of_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(OPEA.replace("  s3:", "  s0:\n  s3:"))
    monkeypatch.setenv("MEGASERVICE_GRAPH", str(path))
    monkeypatch.setenv("BRIDGE_SERVICE", "s3")
    assert built("bridge_from_file").name == "s3"
    for other in ("s0", "s9", ""):
        monkeypatch.setenv("BRIDGE_SERVICE", other)
        with pytest.raises(SetupError, match="with an endpoint; there are: s1, s2, s3, s4"):
            built("bridge_from_file")


@pytest.mark.parametrize("name", ["from_file", "bridge_from_file"])
def test_what_a_person_must_change_first_is_one_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("MEGASERVICE_GRAPH", raising=False)
    with pytest.raises(SetupError, match="set MEGASERVICE_GRAPH to the YAML file"):
        built(name)
    path.write_text("opea_micro_services: [a]")
    monkeypatch.setenv("MEGASERVICE_GRAPH", str(path))
    with pytest.raises(SetupError, match=r"graph\.yaml, line 1: opea_micro_services: ") as refused:
        built(name)
    assert "\n" not in str(refused.value)


def test_the_examples_of_the_documentation_are_read(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    text = (root / "docs" / "opea.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in examples:
        assert read(tmp_path / "example.yaml", example).graph.flows
