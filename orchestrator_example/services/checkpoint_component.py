"""A component around one transformers checkpoint: which one, fetched, loaded, run in one thread.

Importing this module does not import torch; the inference thread does, when `load` begins.

State shared between threads: `_closing`, an event that ends downloads and running jobs. All else is
changed on the event loop only.
"""

import threading
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import structlog

from contracts.discovery import LoadState
from contracts.result import Status
from node.component import Component, DeviceInfo, Health, Invocation, ReportLoad
from node.errors import InternalError, JobError, JobStopped, SetupError
from node.inference.device import DeviceChoice
from node.inference.offers import SHIPPED_FOLDER, ModelSpec, parse_models
from node.inference.thread import InferenceThread
from node.settings import Settings
from orchestrator_example.services.checkpoint_loading import built, choose, fetch

R = TypeVar("R")
StopRequested = Callable[[], Status | None]

log = structlog.get_logger(__name__)


class CheckpointComponent(Component):
    """Serves one checkpoint: NODE_MODEL (hub id, id@revision or folder), or the shipped one.

    What `build` makes has a `warm_up()`, which runs the checkpoint once, briefly.
    """

    shipped: ClassVar[str]
    """Name of the checkpoint that comes with the package."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        shipped = f"{self.shipped}={SHIPPED_FOLDER.parent / self.shipped}"
        self._spec: ModelSpec = parse_models(settings.model or shipped, [])[0]
        self._thread = InferenceThread("inference")
        self._closing = threading.Event()
        self._folder: Path | None = None
        self._model: Any = None
        self._device: DeviceInfo | None = None
        self._warm = False

    @abstractmethod
    def build(self, name: str, folder: Path, choice: DeviceChoice) -> Any:
        """Load the checkpoint; called by the inference thread. Raises SetupError."""

    async def load(self, report: ReportLoad) -> None:
        """Fetch the checkpoint, load it and run it once. Raises SetupError."""
        name = self._spec.name
        until_closed = partial(self._report_download, report)
        self._folder = await self._thread.run(fetch, self._spec, self._settings, until_closed)
        report(LoadState(stage="loading", model=name))
        choice, self._device = await self._thread.run(choose, self._settings)
        self._model = await self._thread.run(built, self.build, name, self._folder, choice)
        report(LoadState(stage="warming_up", model=name))
        try:
            await self.run("a warm-up", None, lambda model, _: model.warm_up())
        except JobError as error:
            raise SetupError(f"{name} fails at its warm-up: {error.detail}") from error
        self._warm = True
        log.info("model.loaded", model=name, device=choice.device, dtype=choice.dtype)

    def _report_download(self, report: ReportLoad, state: LoadState) -> None:
        """Pass on how far a download is; end it, whose thread calls this, once this closes."""
        if self._closing.is_set():
            raise SetupError("the node was stopped while it loaded")
        report(state)

    @property
    def model_name(self) -> str:
        """Name of the checkpoint in results."""
        return self._spec.name

    @property
    def revision(self) -> str | None:
        """The commit of a hub's checkpoint, else what was asked for."""
        if self._folder is not None and self._folder.parent.name == "snapshots":
            return self._folder.name
        return self._spec.revision

    def health(self) -> Health:
        """Healthy once the checkpoint was run."""
        if not self._warm:
            return Health(healthy=False, detail="the model is not warm yet")
        return Health(healthy=True)

    def device(self) -> DeviceInfo | None:
        """Say what torch computes on."""
        return self._device

    async def close(self) -> None:
        """Stop what runs, and free the model."""
        self._closing.set()
        self._warm = False
        self._model = None
        self._thread.close()

    async def run(
        self, what: str, invocation: Invocation | None, call: Callable[[Any, StopRequested], R]
    ) -> R:
        """Call with the model, in its thread. Raises JobError, JobStopped.

        The call shall ask `StopRequested` between steps: a job that nobody awaits ends there, too.
        """
        if self._model is None or self._device is None:
            raise InternalError("the model is not loaded")
        abandoned = threading.Event()

        def stop_requested() -> Status | None:
            if abandoned.is_set() or self._closing.is_set():
                return Status.CANCELLED
            return None if invocation is None else invocation.stop_requested()

        try:
            return await self._thread.run(
                _guarded, what, self._device.device, call, self._model, stop_requested
            )
        finally:
            abandoned.set()


def _guarded(
    what: str, device: str, call: Callable[[Any, StopRequested], R], model: Any, stop: StopRequested
) -> R:
    """Call, and raise what goes wrong in our own words."""
    from node.inference.translation import translated

    try:
        if (status := stop()) is not None:
            raise JobStopped(status)
        return call(model, stop)
    except (JobError, JobStopped):
        raise
    except Exception as error:
        raise translated(error, what, device) from error
