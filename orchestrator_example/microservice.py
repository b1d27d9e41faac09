"""A service as OPEA describes one, and the stage that it is in a graph of ours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pydantic import ValidationError

from node.ingress.decoding import explain
from node.settings import Settings
from orchestrator_example.graph import Build, GraphError, Stage
from orchestrator_example.kinds import KINDS, Kinds
from orchestrator_example.policy import Policy
from orchestrator_example.services.http_bridge import HttpBridge
from orchestrator_example.services.http_settings import BridgeSettings


class ServiceType(StrEnum):
    """What a service does, by OPEA's names."""

    GATEWAY = "GATEWAY"
    EMBEDDING = "EMBEDDING"
    RETRIEVER = "RETRIEVER"
    RERANK = "RERANK"
    LLM = "LLM"
    ASR = "ASR"
    TTS = "TTS"
    GUARDRAIL = "GUARDRAIL"
    VECTORSTORE = "VECTORSTORE"
    DATAPREP = "DATAPREP"
    UNDEFINED = "UNDEFINED"
    RAGAS = "RAGAS"
    LVM = "LVM"
    KNOWLEDGE_GRAPH = "KNOWLEDGE_GRAPH"
    WEB_RETRIEVER = "WEB_RETRIEVER"
    IMAGE2VIDEO = "IMAGE2VIDEO"
    TEXT2IMAGE = "TEXT2IMAGE"
    ANIMATION = "ANIMATION"
    IMAGE2IMAGE = "IMAGE2IMAGE"
    TEXT2SQL = "TEXT2SQL"
    TEXT2GRAPH = "TEXT2GRAPH"
    TEXT2CYPHER = "TEXT2CYPHER"
    TEXT2KG = "TEXT2KG"
    STRUCT2GRAPH = "STRUCT2GRAPH"
    LANGUAGE_DETECTION = "LANGUAGE_DETECTION"
    PROMPT_TEMPLATE = "PROMPT_TEMPLATE"
    PROMPT_REGISTRY = "PROMPT_REGISTRY"
    TEXT2QUERY = "TEXT2QUERY"


TEXT_DOC: Final = Kinds({"text": "text"}, {"text": "output.text"})
"""OPEA's TextDoc, what its HTTP services take and give unless they say otherwise."""

_KINDS: Final[Mapping[ServiceType, Kinds]] = {
    ServiceType.TEXT2IMAGE: KINDS["text2image"],
    ServiceType.IMAGE2IMAGE: KINDS["image2image"],
    ServiceType.LLM: KINDS["prompt-writer"],
    ServiceType.GUARDRAIL: KINDS["guardrail"],
    ServiceType.LVM: KINDS["captioner"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroService:
    """A service as a stage of a graph; `service` is its queue, unless that is its name as well.

    Host, port or endpoint make it a service behind HTTP: a node must serve its `bridge`, which
    takes requests from the queue and posts them there. `endpoint` may be a whole URL.
    `align_inputs` makes fields of its requests from the caller's request and the answers so far.
    """

    name: str = field(kw_only=False)
    service_type: ServiceType = ServiceType.UNDEFINED
    service: str = ""
    protocol: str = "http"
    host: str | None = None
    port: int | None = None
    endpoint: str | None = None
    use_remote_service: bool = True
    parameters: Mapping[str, Any] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    kinds: Kinds = field(default_factory=Kinds)
    align_inputs: Build | None = None

    def __post_init__(self) -> None:
        if not self.use_remote_service:
            raise GraphError(
                f"{self.name!r} is served by a process of its own: "
                "`text2image-node serve --component ...`; leave use_remote_service out"
            )

    @property
    def url(self) -> str | None:
        """Address of a service behind HTTP; None for one of the broker."""
        if self.endpoint is not None and "://" in self.endpoint:
            return self.endpoint
        if (self.host, self.port, self.endpoint) == (None, None, None):
            return None
        path = (self.endpoint or "/").removeprefix("/")
        return f"{self.protocol}://{self.host or 'localhost'}:{self.port or 8080}/{path}"

    def stage(self) -> Stage:
        """Make the stage of a graph. Raises GraphError."""
        kinds = self.kinds
        if kinds == Kinds() and self.url is not None:
            kinds = TEXT_DOC
        elif kinds == Kinds():
            kinds = KINDS.get(self.service or self.name) or _KINDS.get(self.service_type, kinds)
        parameters = dict(self.parameters)
        return Stage(self.name, self.service, parameters, self.policy, kinds, self.align_inputs)

    def bridge(self, settings: Settings) -> HttpBridge:
        """Make the component that serves a service behind HTTP. Raises GraphError."""
        if self.url is None:
            raise GraphError(
                f"{self.name!r} has no endpoint: no bridge serves it, but a node of its own"
            )
        queue, kind = self.stage().service, self.service_type.value
        try:
            bridge = BridgeSettings(service=queue, service_type=kind, url=self.url)
        except ValidationError as error:
            raise GraphError(f"no bridge can serve {self.name!r}: {explain(error)}") from error
        return HttpBridge(settings, bridge)
