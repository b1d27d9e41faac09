"""The engine in its thread, with the files of its models: for one component, or for several of
one process, which then share the weights.

State shared between threads: `_closing`, an event that ends downloads, and `_listeners`, a tuple
that is replaced and never changed. All else is changed on the event loop only.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, ParamSpec, Self, TypeVar

import structlog

from contracts.discovery import LoadState
from contracts.result import Status
from node.component import ReportLoad
from node.errors import JobStopped, SetupError
from node.inference.checkpoint import Facts, read_facts
from node.inference.offers import parse_loras, parse_models
from node.inference.thread import InferenceThread
from node.settings import Settings

ENCODERS: Final = 2
CLOSE_SECONDS: Final = 5.0
TURN_SECONDS: Final = 0.2
"""How often a job that waits for the device looks whether it must stop."""

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model is, and what its files say."""

    folder: Path
    facts: Facts


class EngineHost:
    """Fetches the models, brings up the engine, and gives its components turns on the device."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.specs = parse_models(settings.model, settings.models)
        self.loras = parse_loras(settings.loras)
        self.engine: Any = None
        self.files: dict[str, ModelFiles] = {}
        self.lora_files: dict[str, Path] = {}
        self.encoders = ThreadPoolExecutor(ENCODERS, "encoder")
        self._thread = InferenceThread("inference")
        self._downloads = InferenceThread("downloads")
        self._preparing = asyncio.Lock()
        self._device = asyncio.Lock()
        self._closing = threading.Event()
        self._listeners: tuple[ReportLoad, ...] = ()
        self._users = 1

    def join(self) -> Self:
        """Count one more component; the host closes when the last one has left."""
        self._users += 1
        return self

    async def prepare(self, report: ReportLoad) -> None:
        """Fetch every model and LoRA and make the engine, unless another component did.

        Raises SetupError.
        """
        self._listeners += (report,)
        try:
            async with self._preparing:
                if self.engine is None:
                    await self._prepare()
        finally:
            self._listeners = tuple(each for each in self._listeners if each is not report)

    async def _prepare(self) -> None:
        # torch takes seconds to import: meanwhile files come.
        engine = asyncio.ensure_future(self.run(_make_engine, self._settings))
        try:
            await self._fetch()
            self.engine = await engine
        finally:
            engine.cancel()

    async def _fetch(self) -> None:
        from node.inference.hub import Hub, fetch_lora, fetch_model

        settings, fetch = self._settings, self._downloads.run
        hub = Hub(settings.hf_token, settings.cache_dir, settings.offline)
        for spec in self.specs:
            folder = await fetch(fetch_model, spec, hub, self._report)
            self.files[spec.name] = ModelFiles(folder, read_facts(folder))
        for name, lora in self.loras.items():
            self.lora_files[name] = await fetch(fetch_lora, lora, hub, self._report)

    def _report(self, state: LoadState) -> None:
        """Tell all who wait; end the download that it comes from when the host closes."""
        if self._closing.is_set():
            raise SetupError("the node was stopped while it loaded")
        for report in self._listeners:
            report(state)

    @asynccontextmanager
    async def turn(self, stop_requested: Callable[[], Status | None]) -> AsyncIterator[None]:
        """Have the device inside the context; in the order of asking.

        A job that must stop while it waits does not wait for its turn. Raises JobStopped.
        """
        acquiring = asyncio.ensure_future(self._device.acquire())
        try:
            while not acquiring.done():
                await asyncio.wait({acquiring}, timeout=TURN_SECONDS)
                if (status := stop_requested()) is not None:
                    raise JobStopped(status)
            yield
        finally:
            acquiring.cancel()
            if acquiring.done() and not acquiring.cancelled():
                self._device.release()

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function in the thread that alone calls torch."""
        return await self._thread.run(function, *args, **kwargs)

    async def leave(self) -> None:
        """Count one component less; after the last one free every model and end the threads."""
        self._users -= 1
        if self._users:
            return
        self._closing.set()
        if self.engine is not None:
            await self._free(self.engine)
            self.engine = None
        self._thread.close()
        self._downloads.close()
        self.encoders.shutdown(wait=False)

    async def _free(self, engine: Any) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.run(engine.close)
        except TimeoutError:
            # A checkpoint is being loaded, say: the thread is a daemon and dies with the process.
            log.warning("component.busy_at_close", seconds=CLOSE_SECONDS)


def _make_engine(settings: Settings) -> Any:
    """Import torch and choose the device; called by the inference thread."""
    from node.inference.quiet import quiet_libraries

    quiet_libraries()
    from node.inference.engine import Engine

    return Engine(
        settings.device, settings.dtype, settings.max_inference_steps, settings.max_pixels
    )
