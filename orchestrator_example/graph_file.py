"""A mega-service from a YAML file: OPEA's format, and in its places what a broker adds.

    opea_micro_services:
      writer:
        service: prompt-writer             # the queue; left out: the name is
        policy: {timeout_seconds: 60, retries: 1, on_failure: skip}
      text2image:
        parameters: {num_inference_steps: 20}
      captioner:
      speaker:
        endpoint: http://tts:7055/v1/tts   # behind HTTP: a bridge serves it
    opea_mega_service:
      name: my-painter                     # its queue; left out: megaservice
      mega_flow:
        - writer >> text2image >> captioner
        - writer >> speaker: {mapping: {text: text}, when: {language: en}}
      repeats:
        - {first: text2image, last: captioner, until: {matches: true}, vary: {seed: 1}}

    MEGASERVICE_GRAPH=painter.yaml \\
        text2image-node serve --component orchestrator_example.graph_file:from_file
    MEGASERVICE_GRAPH=painter.yaml BRIDGE_SERVICE=speaker \\
        text2image-node serve --component orchestrator_example.graph_file:bridge_from_file
"""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import structlog
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.megaservice import MEGASERVICE
from node.errors import SetupError
from node.settings import Settings
from orchestrator_example.graph import GraphError, ServiceGraph
from orchestrator_example.kinds import Kinds
from orchestrator_example.megaservice import MegaService
from orchestrator_example.microservice import MicroService, ServiceType
from orchestrator_example.policy import Policy
from orchestrator_example.services.http_bridge import HttpBridge
from orchestrator_example.serving import served
from orchestrator_example.yaml_source import YamlSource

log = structlog.get_logger(__name__)


class GraphSettings(BaseSettings):
    """Which file, and which of its services a bridge serves."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    megaservice_graph: Path | None = None
    bridge_service: str | None = None


def _refuse_unknown(data: Any, known: list[str]) -> Any:
    if data is None:  # a key without a value
        return {}
    if isinstance(data, dict) and (unknown := [key for key in data if key not in known]):
        raise ValueError(f"no key {unknown[0]!r}; there are: {', '.join(known)}")
    return data


def _only_its_fields(kind: type[Any]) -> BeforeValidator:
    known = [each.name for each in fields(kind)]
    return BeforeValidator(lambda data: _refuse_unknown(data, known))


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        return _refuse_unknown(data, list(cls.model_fields))


class _Service(_Part):
    """One of `opea_micro_services`; OPEA knows endpoint, host and port."""

    endpoint: str | None = None
    host: str | None = None
    port: int | None = Field(default=None, ge=1, le=65535)
    service: str = ""
    service_type: ServiceType = ServiceType.UNDEFINED
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    policy: Annotated[Policy, _only_its_fields(Policy)] = Field(default_factory=Policy)
    kinds: Annotated[Kinds, _only_its_fields(Kinds)] = Field(default_factory=Kinds)


class _Flow(_Part):
    mapping: dict[str, str] | None = None
    when: dict[str, JsonValue] | None = None


class _Repeat(_Part):
    first: str
    last: str
    until: dict[str, JsonValue] = Field(min_length=1)
    times: int = Field(default=1, ge=1)
    vary: dict[str, int] = Field(default_factory=dict)


def _with_what_it_carries(line: Any) -> Any:
    if isinstance(line, str):
        return {line: {}}
    if isinstance(line, dict):
        return line
    raise ValueError("a flow is 'a >> b', or 'a >> b: {mapping: {...}, when: {...}}'")


class _MegaService(_Part):
    """`opea_mega_service`; OPEA knows mega_flow and port."""

    name: str = MEGASERVICE
    description: str = ""
    port: int | None = None
    mega_flow: list[Annotated[dict[str, _Flow], BeforeValidator(_with_what_it_carries)]] = Field(
        default_factory=list
    )
    repeats: list[_Repeat] = Field(default_factory=list)


class _Document(_Part):
    opea_micro_services: dict[str, _Service] = Field(min_length=1)
    opea_mega_service: _MegaService = Field(default_factory=_MegaService)


@dataclass(frozen=True, slots=True)
class GraphFile:
    """What a file says; `services` are those of `opea_micro_services` by name."""

    name: str
    description: str
    graph: ServiceGraph
    services: dict[str, MicroService]


def read_graph(path: Path) -> GraphFile:
    """Read a graph. Raises GraphError with the file, the line, the place in it and the reason."""
    source = YamlSource.read(path)
    document = _validated(source)
    services, graph = {}, ServiceGraph()
    for name, said in document.opea_micro_services.items():
        with source.blaming("opea_micro_services", name):
            given = {each: getattr(said, each) for each in said.model_fields_set}
            services[name] = MicroService(name, **given)
            graph = graph.add(services[name].stage())
    mega = document.opea_mega_service
    graph = _with_flows(graph, mega, source)
    with source.blaming("opea_mega_service", "name"):
        served(graph, mega.name)
    if mega.port is not None:
        log.warning("graph.port_not_used", port=mega.port, why=f"requests come from {mega.name!r}")
    return GraphFile(mega.name, mega.description, graph, services)


def from_file(settings: Settings) -> MegaService:
    """Make the mega-service of the file that MEGASERVICE_GRAPH names. Raises SetupError."""
    file = _file(GraphSettings())
    return served(file.graph, file.name, file.description)(settings)


def bridge_from_file(settings: Settings) -> HttpBridge:
    """Make the bridge of the service in the file that BRIDGE_SERVICE names. Raises SetupError."""
    chosen = GraphSettings()
    services = _file(chosen).services
    behind_http = [name for name, service in services.items() if service.url is not None]
    if chosen.bridge_service not in behind_http:
        there = ", ".join(behind_http) or "none"
        raise SetupError(f"set BRIDGE_SERVICE to a service with an endpoint; there are: {there}")
    try:
        return services[chosen.bridge_service].bridge(settings)
    except GraphError as error:
        raise SetupError(str(error)) from error


def _file(chosen: GraphSettings) -> GraphFile:
    if chosen.megaservice_graph is None:
        raise SetupError("set MEGASERVICE_GRAPH to the YAML file of the graph")
    try:
        return read_graph(chosen.megaservice_graph)
    except GraphError as error:
        raise SetupError(str(error)) from error


def _validated(source: YamlSource) -> _Document:
    try:
        return _Document.model_validate(source.data)
    except ValidationError as error:
        reasons = (
            source.complaint(each["loc"], _reason(each["msg"]))
            for each in error.errors(include_url=False)
        )
        raise GraphError("; ".join(reasons)) from error


def _reason(message: str) -> str:
    # Names of classes of ours say nothing to who writes a file.
    return re.sub(r" or (an )?instance of \w+", "", message.removeprefix("Value error, "))


def _with_flows(graph: ServiceGraph, mega: _MegaService, source: YamlSource) -> ServiceGraph:
    for number, lines in enumerate(mega.mega_flow):
        for line, flow in lines.items():
            with source.blaming("opea_mega_service", "mega_flow", number):
                graph = graph.follow([line], flow.mapping, flow.when)
    for number, repeat in enumerate(mega.repeats):
        with source.blaming("opea_mega_service", "repeats", number):
            graph = graph.repeat(
                repeat.first, repeat.last, repeat.until, times=repeat.times, vary=repeat.vary
            )
    return graph
