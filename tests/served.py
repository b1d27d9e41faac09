"""A loaded text2image component and what its jobs report, for tests with real pipelines."""

import asyncio
import base64
import io
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from contracts.discovery import LoadState
from contracts.result import Status
from contracts.text2image import GeneratedImage, Text2ImageRequest, Text2ImageResult
from node.component import Health
from node.inference.component import Text2ImageComponent
from node.settings import Settings

STEPS = 3


@dataclass(slots=True)
class Recording:
    """Writes down what a job reports; stops it once so many steps are done.

    With `hold`, the job waits for it after its first step.
    """

    job_id: str = "job"
    stop_after: int | None = None
    hold: threading.Event | None = None
    status: Status = Status.CANCELLED
    steps: list[tuple[int, int]] = field(default_factory=list)
    previews: list[tuple[int, bytes, str]] = field(default_factory=list)
    images: list[GeneratedImage] = field(default_factory=list)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def stop_requested(self) -> Status | None:
        enough = self.stop_after is not None and len(self.steps) >= self.stop_after
        return self.status if enough else None

    def inference_step(self, step: int, num_inference_steps: int) -> None:
        self.steps.append((step, num_inference_steps))
        self.loop.call_soon_threadsafe(self.began.set)
        if self.hold is not None:
            assert self.hold.wait(60)

    def preview(self, step: int, data: bytes, media_type: str) -> None:
        self.previews.append((step, data, media_type))

    def image(self, image: GeneratedImage) -> None:
        self.images.append(image)


@dataclass(slots=True)
class Served:
    """A loaded component, and how it came up."""

    component: Text2ImageComponent
    name: str
    health_before: Health
    states: list[LoadState]

    @property
    def pipeline(self) -> Any:
        return self.component._engine._pipelines[self.name]

    @property
    def denoiser(self) -> torch.nn.Module:
        return getattr(self.pipeline, "unet", None) or self.pipeline.transformer

    async def make(
        self, invocation: Recording | None = None, **fields: Any
    ) -> tuple[Text2ImageResult, Recording]:
        """Admit and run a small request, as a worker does."""
        recording = invocation or Recording()
        request = small(**fields)
        self.component.admit(request)
        result = await self.component.invoke(request, recording)
        assert isinstance(result, Text2ImageResult)
        return result, recording


Serve = Callable[[str], Awaitable[Served]]


def small(**fields: Any) -> Text2ImageRequest:
    values = {
        "prompt": "a horse",
        "width": 64,
        "height": 64,
        "num_inference_steps": STEPS,
        "seed": 7,
    }
    return Text2ImageRequest(**values | fields)


def settings(folder: Path, **given: Any) -> Settings:
    values = {
        "model": str(folder),
        "device": "cpu",
        "dtype": "float32",
        "max_pixels": 256,
        "max_images": 4,
        "max_inference_steps": 20,
        "offline": True,
        "http_port": 0,
    }
    return Settings(**values | given)


def file_of(image: GeneratedImage) -> bytes:
    assert image.b64_json is not None
    return base64.b64decode(image.b64_json)


def files(result: Text2ImageResult) -> list[bytes]:
    return [file_of(image) for image in result.images]


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as opened:
        return np.asarray(opened)


def pictures(result: Text2ImageResult) -> list[bytes]:
    """Pixels alone: the files differ also by the generation data in them."""
    return [pixels(data).tobytes() for data in files(result)]


@contextmanager
def once(module: torch.nn.Module, error: Exception) -> Iterator[None]:
    """The module raises at its next forward pass, and then works again."""

    def fail(*_: Any) -> None:
        handle.remove()
        raise error

    handle = module.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()


async def come_up(component: Text2ImageComponent) -> Served:
    states: list[LoadState] = []
    before = component.health()
    await component.load(states.append)
    return Served(component, component.models()[0].id, before, states)
