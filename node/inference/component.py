"""The text2image component: Diffusers behind the interface that a node serves.

Importing this module does not import torch; the inference thread does, when `load` begins.

State shared between threads: `_closing`, an event that ends downloads and running jobs. All else
is changed on the event loop only.
"""

import asyncio
import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Final

import structlog

from contracts.discovery import LoadState, ModelInfo
from contracts.events import ServiceEvent
from contracts.message import MAX_SEED, Message
from contracts.result import JobResult, Status, Timings
from contracts.text2image import (
    TEXT2IMAGE,
    GeneratedImage,
    Text2ImageRequest,
    Text2ImageResult,
)
from node.component import (
    Component,
    DeviceInfo,
    Health,
    Invocation,
    JobContext,
    ReportLoad,
)
from node.errors import InternalError, JobError, SetupError
from node.inference.catalogue import Catalogue, Offer
from node.inference.checkpoint import read_facts
from node.inference.finishing import Finisher
from node.inference.offers import parse_loras, parse_models
from node.inference.parameters import Plan, check_limits, plan
from node.inference.thread import InferenceThread
from node.settings import Settings

WARM_UP_STEPS: Final = 2
ENCODERS: Final = 2
CLOSE_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class Text2ImageComponent(Component):
    """Makes images with the models that the settings allow."""

    name: ClassVar[str] = TEXT2IMAGE
    service_type: ClassVar[str] = "TEXT2IMAGE"
    description: ClassVar[str] = "Makes images from text with Diffusers"
    request_model: ClassVar[type[Message]] = Text2ImageRequest
    result_model: ClassVar[type[JobResult]] = Text2ImageResult

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loras = parse_loras(settings.loras)
        specs = parse_models(settings.model, settings.models)
        self._catalogue = Catalogue(specs, self._loras, settings)
        self._lora_files: dict[str, Path] = {}
        self._thread = InferenceThread("inference")
        self._downloads = InferenceThread("downloads")
        self._encoders = ThreadPoolExecutor(ENCODERS, "encoder")
        self._closing = threading.Event()
        self._engine: Any = None
        self._device: DeviceInfo | None = None

    async def load(self, report: ReportLoad) -> None:
        """Fetch every model and LoRA, then load the default one and make an image with it.

        Raises SetupError.
        """
        report = self._until_closing(report)
        # torch takes seconds to import: meanwhile files come.
        engine = asyncio.ensure_future(self._thread.run(_make_engine, self._settings))
        try:
            await self._fetch(report)
            self._engine = await engine
        finally:
            engine.cancel()
        offer = self._catalogue.default
        report(LoadState(stage="loading", model=offer.spec.name))
        try:
            await self._load(offer)
        except JobError as error:
            raise SetupError(f"{offer.spec.name} cannot be loaded: {error.detail}") from error
        report(LoadState(stage="warming_up", model=offer.spec.name))
        await self._warm_up(offer)

    def admit(self, request: Message) -> None:
        """Check the request against the announced limits."""
        assert isinstance(request, Text2ImageRequest)
        offer = self._catalogue.find(request.model)
        check_limits(request, self._catalogue.limits(offer), self._catalogue.lora_names(offer))

    async def invoke(self, request: Message, invocation: Invocation) -> JobResult:
        """Make the images. A model that is not loaded is loaded first, and stays."""
        assert isinstance(request, Text2ImageRequest)
        offer = self._catalogue.find(request.model)
        load_seconds = await self._ensure_loaded(offer)
        made = self._plan(request, offer, invocation.job_id)
        result = await self._run(offer, made, invocation)
        timings = result.timings.model_copy(update={"load_seconds": load_seconds})
        return result.model_copy(update={"timings": timings, "metadata": request.metadata})

    def health(self) -> Health:
        """Healthy once the default model has made an image, until the device breaks."""
        if not self._catalogue.default.warm:
            return Health(healthy=False, detail="the model is not warm yet")
        if self._engine is not None and self._engine.broken:
            return Health(healthy=False, detail=self._engine.broken)
        return Health(healthy=True)

    def models(self) -> list[ModelInfo]:
        """List the allow-list, with all that is known by now."""
        return [self._catalogue.info(offer) for offer in self._catalogue.offers]

    def device(self) -> DeviceInfo | None:
        """Say what torch computes on, as of the latest job."""
        return self._device

    async def close(self) -> None:
        """Stop what runs, and free every model."""
        self._closing.set()
        if self._engine is not None:
            await self._free(self._engine)
            self._engine = None
        self._thread.close()
        self._downloads.close()
        self._encoders.shutdown(wait=False)

    async def _free(self, engine: Any) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._thread.run(engine.close)
        except TimeoutError:
            # A checkpoint is being loaded, say: the thread is a daemon and dies with the process.
            log.warning("component.busy_at_close", seconds=CLOSE_SECONDS)

    async def _fetch(self, report: ReportLoad) -> None:
        from node.inference.hub import Hub, fetch_lora, fetch_model

        settings = self._settings
        hub = Hub(settings.hf_token, settings.cache_dir, settings.offline)
        for offer in self._catalogue.offers:
            offer.folder = await self._downloads.run(fetch_model, offer.spec, hub, report)
            offer.facts = read_facts(offer.folder)
        for name, spec in self._loras.items():
            self._lora_files[name] = await self._downloads.run(fetch_lora, spec, hub, report)

    async def _load(self, offer: Offer) -> None:
        offer.traits = await self._thread.run(self._engine.load, offer.spec.name, offer.folder)
        self._device = await self._thread.run(self._engine.device_info)
        log.info("model.loaded", model=offer.spec.name, family=offer.family)

    async def _ensure_loaded(self, offer: Offer) -> float:
        """Load a model on its first use and return the seconds that it took."""
        if offer.traits is not None:
            return 0.0
        started = time.perf_counter()
        try:
            await self._load(offer)
        except SetupError as error:
            raise InternalError(f"model {offer.spec.name} cannot be loaded: {error}") from error
        return time.perf_counter() - started

    async def _warm_up(self, offer: Offer) -> None:
        steps = min(WARM_UP_STEPS, self._settings.max_inference_steps)
        request = Text2ImageRequest(prompt="warm-up", seed=0, num_inference_steps=steps)
        try:
            await self._run(offer, self._plan(request, offer, "warm-up"), _WarmUp())
        except JobError as error:
            raise SetupError(f"{offer.spec.name} fails at its warm-up: {error.detail}") from error

    def _plan(self, request: Text2ImageRequest, offer: Offer, job_id: str) -> Plan:
        assert offer.traits is not None
        return plan(
            request,
            model=offer.spec.name,
            traits=offer.traits,
            limits=self._catalogue.limits(offer),
            loras=self._catalogue.lora_names(offer),
            random_seed=random_seed(job_id),
        )

    async def _run(self, offer: Offer, made: Plan, invocation: Invocation) -> Text2ImageResult:
        finisher = Finisher(made, offer.revision, invocation, self._encoders)
        abandoned = threading.Event()

        def stop_requested() -> Status | None:
            left = abandoned.is_set() or self._closing.is_set()
            return Status.CANCELLED if left else invocation.stop_requested()

        try:
            generated = await self._thread.run(
                self._engine.generate,
                offer.spec.name,
                made,
                self._lora_files,
                invocation,
                stop_requested,
                finisher.deliver,
            )
        finally:
            abandoned.set()
            # A job that failed tells nothing after its end.
            await finisher.settle()
        images, file_seconds = await finisher.images()
        self._device = generated.device
        offer.warm = True
        return Text2ImageResult(
            job_id=invocation.job_id,
            status=Status.SUCCEEDED,
            model=offer.spec.name,
            revision=offer.revision,
            images=images,
            parameters=made.parameters,
            identity=generated.identity,
            warnings=[*made.warnings, *generated.warnings],
            timings=Timings(
                encode_seconds=generated.seconds.encode,
                denoise_seconds=generated.seconds.denoise,
                decode_seconds=generated.seconds.decode + file_seconds,
            ),
        )

    def _until_closing(self, report: ReportLoad) -> ReportLoad:
        """Make a report that ends the download it comes from when the component closes."""

        def guarded(state: LoadState) -> None:
            if self._closing.is_set():
                raise SetupError("the node was stopped while it loaded")
            report(state)

        return guarded


def random_seed(job_id: str) -> int:
    """Choose the seed of a job that names none: from its id, so that a repeat makes the same."""
    digest = hashlib.sha256(job_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") & MAX_SEED


def _make_engine(settings: Settings) -> Any:
    """Import torch and choose the device; called by the inference thread."""
    from node.inference.quiet import quiet_libraries

    quiet_libraries()
    from node.inference.engine import Engine

    return Engine(
        settings.device, settings.dtype, settings.max_inference_steps, settings.max_pixels
    )


class _WarmUp:
    """The invocation of an image that nobody asked for."""

    job_id: str = "warm-up"
    context = JobContext()
    handed_back = False

    def stop_requested(self) -> Status | None:
        return None

    def inference_step(self, step: int, num_inference_steps: int) -> None:
        pass

    def preview(self, step: int, data: bytes, media_type: str) -> None:
        pass

    def image(self, image: GeneratedImage) -> None:
        pass

    def stage(self, stage: str, attempt: int, fraction: float, event: ServiceEvent) -> None:
        pass
