"""Component: what a service must provide to be served by a node; how components are found
and brought up.

The three ideas are OPEA's (component, registry, loader: `comps/cores/common/component.py` of
OPEA GenAIComps), without its module-level registry.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import structlog

from contracts.discovery import LoadState, ModelInfo
from contracts.events import ServiceEvent
from contracts.message import Message
from contracts.result import JobResult, Status
from contracts.service import ServiceContract
from contracts.text2image import GeneratedImage
from node.errors import SetupError

ENTRY_POINT_GROUP: Final = "text2image_node.components"

log = structlog.get_logger(__name__)

ReportLoad = Callable[[LoadState], None]
"""Receives progress of fetching and loading; may be called from any thread."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a component can work, and why not."""

    healthy: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a component computes on; sizes in bytes."""

    device: str
    dtype: str
    reason: str
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class JobContext:
    """What a job came with, for components that start jobs of their own for it.

    `deadline` is in Unix seconds; `headers` are the trace context and CloudEvents attributes;
    `replay` counts how often a person took the request out of the dead-letter queue.
    """

    priority: int = 0
    deadline: float | None = None
    replay: int = 0
    headers: Mapping[str, Any] = field(default_factory=dict)


class Invocation(Protocol):
    """A running job as its component sees it. Every method may be called from any thread."""

    @property
    def job_id(self) -> str:
        """Id of the job."""

    @property
    def context(self) -> JobContext:
        """What the job came with."""

    @property
    def handed_back(self) -> bool:
        """Whether another node goes on with the job: what it started elsewhere is left alone."""

    def stop_requested(self) -> Status | None:
        """Say `cancelled` or `expired` once the job must not take another inference step."""

    def inference_step(self, step: int, num_inference_steps: int) -> None:
        """Report that `step` of `num_inference_steps` are done. Never blocks."""

    def preview(self, step: int, data: bytes, media_type: str) -> None:
        """Offer an encoded preview image. Never blocks."""

    def image(self, image: GeneratedImage) -> None:
        """Report a finished image, bytes included. Never blocks."""

    def stage(self, stage: str, attempt: int, fraction: float, event: ServiceEvent) -> None:
        """Pass on an event of a job that this one waits for; `fraction` is done. Never blocks."""


class Component(ABC):
    """A service that a node can serve.

    The node calls `load` once, then `admit` and `invoke` any number of times, then `close`, all
    on its event loop. Work that takes longer than a few milliseconds belongs in a thread.
    """

    name: ClassVar[str]
    """Service name: the queue, and the first word of routing keys."""
    service_type: ClassVar[str]
    """OPEA service type, for example `TEXT2IMAGE`."""
    description: ClassVar[str]
    request_model: ClassVar[type[Message]]
    result_model: ClassVar[type[JobResult]]
    slots: ClassVar[int] = 1
    """How many jobs may run at the same time, unless NODE_SLOTS says otherwise."""
    has_stages: ClassVar[bool] = False
    """Whether other services do the work, and their events are passed on."""
    max_request_bytes: ClassVar[int] = 1_048_576
    """How large a request may be, unless NODE_MAX_REQUEST_BYTES says otherwise."""

    def contract(self) -> ServiceContract:
        """Say what travels to and from this service."""
        return ServiceContract(
            self.name, self.request_model, self.result_model, self.description, self.has_stages
        )

    @abstractmethod
    async def load(self, report: ReportLoad) -> None:
        """Fetch, load and warm up, so that the next `invoke` runs at full speed.

        Raises SetupError in one clear line when a person must act (missing or gated model).
        """

    def share(self, sibling: "Component") -> None:  # noqa: B027 - optional hook
        """Use what another component of this process has loaded; called before `load`."""

    def admit(self, request: Message) -> None:  # noqa: B027 - optional hook
        """Check the request against this instance's limits, quickly.

        Raises InvalidRequest or ModelNotAvailable.
        """

    @abstractmethod
    async def invoke(self, request: Message, invocation: Invocation) -> JobResult:
        """Do the work and return a `succeeded` result; the node fills in `node` and timings
        of the queue. A `failed` result with its `error` is final, and may say what was done.

        Raises JobStopped when `invocation.stop_requested()` said so, and JobError otherwise.
        """

    def health(self) -> Health:
        """Say whether the component can work now."""
        return Health(healthy=True)

    def models(self) -> list[ModelInfo]:
        """List the models that requests may name, before `load` as well as after."""
        return []

    def device(self) -> DeviceInfo | None:
        """Say what the component computes on; None while unknown."""
        return None

    async def close(self) -> None:  # noqa: B027 - optional hook
        """Free what `load` took."""


ComponentFactory = Callable[[Any], Component]
"""Builds a component from the node's settings (a component class is one)."""


class ComponentRegistry:
    """Finds component factories by name: registered ones first, then installed entry points."""

    def __init__(self) -> None:
        self._factories: dict[str, ComponentFactory] = {}

    def register(self, name: str, factory: ComponentFactory) -> None:
        """Add a factory. Raises ValueError when the name is taken."""
        if name in self._factories:
            raise ValueError(f"component {name!r} is already registered")
        self._factories[name] = factory

    def unregister(self, name: str) -> None:
        """Remove a factory. Raises KeyError when there is none of this name."""
        del self._factories[name]

    def names(self) -> list[str]:
        """List every name that `find` knows, sorted."""
        installed = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
        return sorted(installed | set(self._factories))

    def find(self, name: str) -> ComponentFactory:
        """Find a factory by registered name, entry point, or `package.module:Class`.

        Raises SetupError when there is none, or when importing it fails.
        """
        if name in self._factories:
            return self._factories[name]
        points = list(entry_points(group=ENTRY_POINT_GROUP, name=name))
        if len(points) > 1:
            values = ", ".join(point.value for point in points)
            raise SetupError(f"component {name!r} is installed more than once: {values}")
        reference = points[0].value if points else name
        if ":" not in reference:
            raise SetupError(f"no component {name!r}; there are: {', '.join(self.names())}")
        return _import_factory(reference)


def _import_factory(reference: str) -> ComponentFactory:
    module_name, _, attribute = reference.partition(":")
    # A service of one's own lies where the command is run; installed commands do not look there.
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise SetupError(f"component {reference!r} cannot be imported: {error}") from error
    if not callable(factory):
        raise SetupError(f"component {reference!r} is not a Component class or a factory")
    return factory  # type: ignore[no-any-return]


class ComponentLoader:
    """Builds a component, brings it up, and replaces it by another without a gap."""

    def __init__(self, registry: ComponentRegistry, settings: Any) -> None:
        self._registry = registry
        self._settings = settings

    def build(self, name: str) -> Component:
        """Build a component that is not loaded yet. Raises SetupError."""
        component = self._registry.find(name)(self._settings)
        if not isinstance(component, Component):
            raise SetupError(f"{name!r} builds a {type(component).__name__}, not a Component")
        return component

    async def load(self, component: Component, report: ReportLoad) -> Component:
        """Load and warm up; on failure free what was taken. Raises SetupError."""
        try:
            await component.load(report)
        except BaseException:
            await component.close()
            raise
        log.info("component.loaded", component=component.name)
        return component

    async def replace(self, old: Component, name: str, report: ReportLoad) -> Component:
        """Bring up a new component, then close the old one; on failure the old one stays."""
        new = await self.load(self.build(name), report)
        await old.close()
        return new
