"""Pictures to finished images, beside the inference thread: quantise, encode, hash, report."""

import asyncio
import base64
import hashlib
import time
from concurrent.futures import Executor, Future
from typing import Any

from contracts.text2image import GeneratedImage
from node.component import Invocation
from node.errors import OutOfMemory
from node.inference.embedded import generation_json, generation_text
from node.inference.images import encode, to_uint8
from node.inference.parameters import Plan


class Finisher:
    """Finishes the pictures of one job in an executor while the device makes the next one.

    `deliver` is called by the inference thread, everything else by the event loop.
    """

    def __init__(
        self, plan: Plan, revision: str | None, invocation: Invocation, executor: Executor
    ) -> None:
        self._parameters = plan.parameters
        self._revision = revision
        self._invocation = invocation
        self._executor = executor
        self._futures: list[Future[tuple[GeneratedImage, float]]] = []

    def deliver(self, picture: Any) -> None:
        """Take a `generation.Picture`; it is finished soon."""
        self._futures.append(self._executor.submit(self._finish, picture))

    async def settle(self) -> None:
        """Wait until no image of the job is reported any more, whatever became of them."""
        await asyncio.gather(*map(asyncio.wrap_future, self._futures), return_exceptions=True)

    async def images(self) -> tuple[list[GeneratedImage], float]:
        """Wait for every delivered picture; also return the seconds of work that they took.

        Raises GenerationFailed where one is not a picture, OutOfMemory.
        """
        try:
            done = await asyncio.gather(*map(asyncio.wrap_future, self._futures))
        except MemoryError as error:
            raise OutOfMemory(
                "no memory left to encode the images; ask for fewer pixels"
            ) from error
        return [image for image, _ in done], sum(seconds for _, seconds in done)

    def _finish(self, picture: Any) -> tuple[GeneratedImage, float]:
        started = time.perf_counter()
        parameters = self._parameters
        pixels = to_uint8(picture.pixels)
        text = generation_text(parameters, picture.seed)
        data = generation_json(parameters, self._revision, picture.seed)
        file = encode(pixels, parameters.output_format, parameters.output_quality, text, data)
        height, width, _ = pixels.shape
        image = GeneratedImage(
            index=picture.index,
            b64_json=base64.b64encode(file).decode(),
            media_type=parameters.output_format.media_type,
            width=width,
            height=height,
            seed=picture.seed,
            sha256=hashlib.sha256(file).hexdigest(),
            nsfw=picture.nsfw,
        )
        self._invocation.image(image)
        return image, time.perf_counter() - started
