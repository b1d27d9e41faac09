"""What components that make images with Diffusers have in common; the engine may be shared.

Importing this module does not import torch; the inference thread does, when `load` begins.

State shared between threads: `_closing`, an event that ends running jobs. All else is changed on
the event loop only.
"""

import hashlib
import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import structlog

from contracts.discovery import LoadState, ModelInfo
from contracts.message import MAX_SEED, Message
from contracts.result import JobResult, Status, Timings
from contracts.text2image import Text2ImageRequest, Text2ImageResult
from node.component import Component, DeviceInfo, Health, Invocation, ReportLoad
from node.errors import InternalError, JobError, SetupError
from node.inference.catalogue import Catalogue, Offer
from node.inference.finishing import Finisher
from node.inference.host import EngineHost
from node.inference.parameters import Plan, check_limits
from node.inference.traits import Task, entry
from node.inference.warm_up import WARM_UP_STEPS, WarmUp
from node.settings import Settings

StopRequested = Callable[[], Status | None]

log = structlog.get_logger(__name__)


class DiffusersComponent(Component):
    """Makes images with the models that the settings allow.

    A subclass says what its requests, results and plans are.
    """

    task: ClassVar[Task]
    result_model: ClassVar[type[Text2ImageResult]]

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._host = EngineHost(settings)
        self._catalogue = Catalogue(self._host.specs, self._host.loras, settings)
        self._closing = threading.Event()
        self._device: DeviceInfo | None = None

    @abstractmethod
    async def _plan(self, request: Any, source: Any, offer: Offer, job_id: str) -> Plan:
        """Decide what to run on a loaded model; `source` is what `_source` gave.

        Raises InvalidRequest.
        """

    async def _source(self, request: Any) -> Any:
        """Read what images begin with, before the device is waited for. Raises JobError."""

    @abstractmethod
    def _warm_up_request(self, offer: Offer, steps: int) -> Text2ImageRequest:
        """Ask for the image with which a loaded model warms up."""

    def share(self, sibling: Component) -> None:
        """Use the engine of another component of this process; call it before `load`."""
        if isinstance(sibling, DiffusersComponent) and sibling._host is not self._host:
            self._host = sibling._host.join()

    async def load(self, report: ReportLoad) -> None:
        """Fetch every model and LoRA, then load the default one and make an image with it.

        Raises SetupError.
        """
        await self._host.prepare(report)
        self._take_stock()
        offer = self._catalogue.default
        report(LoadState(stage="loading", model=offer.spec.name))
        try:
            async with self._host.turn(self._stopped):
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
        return await self._make(request, offer, invocation)

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
        """Stop what runs, and free every model that no other component uses."""
        if not self._closing.is_set():
            self._closing.set()
            await self._host.leave()

    @property
    def _engine(self) -> Any:
        return self._host.engine

    def _stopped(self) -> Status | None:
        return Status.CANCELLED if self._closing.is_set() else None

    def _take_stock(self) -> None:
        """Note what the files of the models say, and withdraw what is of no use here."""
        for offer in list(self._catalogue.offers):
            files = self._host.files[offer.spec.name]
            offer.folder, offer.facts = files.folder, files.facts
            if not self._engine.can(self.task, files.facts.family):
                why = f"{offer.spec.name} ({files.facts.family}) has no {self.task} pipeline"
                self._catalogue.withdraw(offer, why)

    async def _load(self, offer: Offer) -> None:
        run, engine = self._host.run, self._engine
        offer.traits = await run(engine.load, offer.spec.name, offer.folder, self.task)
        self._device = await run(engine.device_info)
        log.info("model.loaded", component=self.name, model=offer.spec.name, family=offer.family)

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
        try:
            await self._make(self._warm_up_request(offer, steps), offer, WarmUp())
        except JobError as error:
            raise SetupError(f"{offer.spec.name} fails at its warm-up: {error.detail}") from error

    def _bounds(self, offer: Offer, job_id: str) -> dict[str, Any]:
        """Collect what a plan needs to know beside the request."""
        assert offer.traits is not None
        return {
            "model": offer.spec.name,
            "traits": offer.traits,
            "limits": self._catalogue.limits(offer),
            "loras": self._catalogue.lora_names(offer),
            "random_seed": random_seed(job_id),
        }

    async def _make(
        self, request: Text2ImageRequest, offer: Offer, invocation: Invocation
    ) -> Text2ImageResult:
        source = await self._source(request)

        def stop_requested() -> Status | None:
            return self._stopped() or invocation.stop_requested()

        async with self._host.turn(stop_requested):
            load_seconds = await self._ensure_loaded(offer)
            made = await self._plan(request, source, offer, invocation.job_id)
            finisher = Finisher(made, offer.revision, invocation, self._host.encoders)
            generated = await self._generate(offer, made, finisher, invocation, stop_requested)
        images, file_seconds = await finisher.images()
        self._device = generated.device
        offer.warm = True
        return self.result_model(
            job_id=invocation.job_id,
            status=Status.SUCCEEDED,
            model=offer.spec.name,
            revision=offer.revision,
            images=images,
            parameters=made.parameters,
            identity=generated.identity,
            warnings=[*made.warnings, *generated.warnings],
            metadata=request.metadata,
            timings=Timings(
                load_seconds=load_seconds,
                encode_seconds=generated.seconds.encode,
                denoise_seconds=generated.seconds.denoise,
                decode_seconds=generated.seconds.decode + file_seconds,
            ),
        )

    async def _generate(
        self,
        offer: Offer,
        made: Plan,
        finisher: Finisher,
        invocation: Invocation,
        stop_requested: StopRequested,
    ) -> Any:
        """Run a plan in the inference thread; it stops there when nobody awaits it any more."""
        abandoned = threading.Event()

        def stop() -> Status | None:
            return Status.CANCELLED if abandoned.is_set() else stop_requested()

        try:
            return await self._host.run(
                self._engine.generate,
                entry(offer.spec.name, self.task),
                made,
                self._host.lora_files,
                invocation,
                stop,
                finisher.deliver,
            )
        except BaseException:
            abandoned.set()
            # A job that failed tells nothing after its end.
            await finisher.settle()
            raise


def random_seed(job_id: str) -> int:
    """Choose the seed of a job that names none: from its id, so that a repeat makes the same."""
    digest = hashlib.sha256(job_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") & MAX_SEED
