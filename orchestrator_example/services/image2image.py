"""image2image: Diffusers' image-to-image, with the models of text2image.

Beside text2image in one process it uses the weights that are loaded there:

    text2image-node serve --component text2image --component image2image
"""

import asyncio
import base64
import hashlib
import io
from typing import ClassVar

from PIL import Image

from contracts.image2image import IMAGE2IMAGE, Image2ImageRequest, Image2ImageResult
from contracts.message import Message
from contracts.text2image import Text2ImageResult
from node.inference.catalogue import Offer
from node.inference.diffusing import DiffusersComponent
from node.inference.parameters import Plan
from node.inference.picture import Source, plan_from_picture, resized
from node.inference.traits import Task
from node.inference.warm_up import WARM_UP
from orchestrator_example.services.pictures import MAX_REQUEST_BYTES, decoded, read_file


class Image2ImageComponent(DiffusersComponent):
    """Makes images from pictures and texts."""

    name: ClassVar[str] = IMAGE2IMAGE
    service_type: ClassVar[str] = "IMAGE2IMAGE"
    description: ClassVar[str] = "Makes images from pictures and texts with Diffusers"
    request_model: ClassVar[type[Message]] = Image2ImageRequest
    result_model: ClassVar[type[Text2ImageResult]] = Image2ImageResult
    max_request_bytes: ClassVar[int] = MAX_REQUEST_BYTES
    task: ClassVar[Task] = Task.IMAGE2IMAGE

    async def _source(self, request: Image2ImageRequest) -> Source:
        data = await read_file(request.image, self._settings.artifact_store)
        return await asyncio.to_thread(_source, data)

    async def _plan(
        self, request: Image2ImageRequest, source: Source, offer: Offer, job_id: str
    ) -> Plan:
        made = plan_from_picture(request, source, **self._bounds(offer, job_id))
        return await asyncio.to_thread(resized, made)

    def _warm_up_request(self, offer: Offer, steps: int) -> Image2ImageRequest:
        file = io.BytesIO()
        # Of the size that requests will most often have.
        Image.new("RGB", offer.native_size or (64, 64), "gray").save(file, "PNG")
        return Image2ImageRequest(
            prompt=WARM_UP,
            image=base64.b64encode(file.getvalue()).decode(),
            strength=1.0,
            seed=0,
            num_inference_steps=steps,
        )


def _source(data: bytes) -> Source:
    return Source(decoded(data), hashlib.sha256(data).hexdigest())
