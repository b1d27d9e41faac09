"""The captioner: pictures in words, and whether they show what was asked for."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from PIL import Image

from contracts.captioner import CAPTIONER, Caption, CaptionerRequest, CaptionerResult
from contracts.message import Message
from contracts.picture import Picture
from contracts.result import JobResult, Status, Timings
from node.component import Invocation
from node.errors import JobStopped
from node.inference.device import DeviceChoice
from orchestrator_example.services.caption_judging import best
from orchestrator_example.services.caption_seeing import CaptionModel, Sight
from orchestrator_example.services.checkpoint_component import CheckpointComponent, StopRequested
from orchestrator_example.services.pictures import MAX_REQUEST_BYTES, read_picture

MAX_EDGE_PIXELS: Final = 1024
"""What is larger is made smaller at once: models look at less, and sixteen must fit in memory."""


class Captioner(CheckpointComponent):
    """Captions with the shipped model, or any image-to-text model of transformers."""

    name: ClassVar[str] = CAPTIONER
    service_type: ClassVar[str] = "LVM"
    description: ClassVar[str] = "Says what pictures show, and whether they show a prompt"
    request_model: ClassVar[type[Message]] = CaptionerRequest
    result_model: ClassVar[type[JobResult]] = CaptionerResult
    max_request_bytes: ClassVar[int] = MAX_REQUEST_BYTES
    shipped: ClassVar[str] = "emoji-captioner"

    def build(self, name: str, folder: Path, choice: DeviceChoice) -> Any:
        """Load the checkpoint, whichever kind it is."""
        from orchestrator_example.services.caption_models import load_captioner

        return load_captioner(name, folder, choice)

    async def invoke(self, request: Message, invocation: Invocation) -> JobResult:
        """Caption the pictures, one after the other."""
        assert isinstance(request, CaptionerRequest)
        started = time.perf_counter()
        images = [await self._read(picture) for picture in request.pictures]
        read = time.perf_counter()

        def look(model: Any, stop_requested: StopRequested) -> tuple[list[Sight], list[str]]:
            sights = list(_sights(model, images, request.prompt, invocation, stop_requested))
            return sights, [] if request.prompt is None else model.warnings(request.prompt)

        sights, warnings = await self.run("a caption", invocation, look)
        chosen = best([sight.score for sight in sights])
        return CaptionerResult(
            job_id=invocation.job_id,
            status=Status.SUCCEEDED,
            text=sights[chosen or 0].text,
            captions=[_caption(index, sight) for index, sight in enumerate(sights)],
            matches=None if chosen is None else sights[chosen].matches,
            best=chosen,
            model=self.model_name,
            revision=self.revision,
            warnings=warnings,
            metadata=request.metadata,
            timings=Timings(
                encode_seconds=read - started, denoise_seconds=time.perf_counter() - read
            ),
        )

    async def _read(self, picture: Picture) -> Image.Image:
        image = await read_picture(picture, self._settings.artifact_store)
        await asyncio.to_thread(image.thumbnail, (MAX_EDGE_PIXELS, MAX_EDGE_PIXELS))
        return image


def _sights(
    model: CaptionModel,
    images: Sequence[Image.Image],
    prompt: str | None,
    invocation: Invocation,
    stop_requested: StopRequested,
) -> Iterator[Sight]:
    """Look at one picture after the other. Raises JobStopped between two."""
    for index, image in enumerate(images):
        if (status := stop_requested()) is not None:
            raise JobStopped(status)
        yield model.look(image, prompt, stop_requested)
        invocation.inference_step(index + 1, len(images))


def _caption(index: int, sight: Sight) -> Caption:
    return Caption(index=index, text=sight.text, score=sight.score, matches=sight.matches)
