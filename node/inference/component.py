"""The text2image component: Diffusers behind the interface that a node serves.

Importing this module does not import torch; the inference thread does, when `load` begins.
"""

from typing import Any, ClassVar

from contracts.message import Message
from contracts.text2image import TEXT2IMAGE, Text2ImageRequest, Text2ImageResult
from node.inference.catalogue import Offer
from node.inference.diffusing import DiffusersComponent
from node.inference.parameters import Plan, plan
from node.inference.traits import Task
from node.inference.warm_up import WARM_UP


class Text2ImageComponent(DiffusersComponent):
    """Makes images from text."""

    name: ClassVar[str] = TEXT2IMAGE
    service_type: ClassVar[str] = "TEXT2IMAGE"
    description: ClassVar[str] = "Makes images from text with Diffusers"
    request_model: ClassVar[type[Message]] = Text2ImageRequest
    result_model: ClassVar[type[Text2ImageResult]] = Text2ImageResult
    task: ClassVar[Task] = Task.TEXT2IMAGE

    async def _plan(self, request: Any, source: Any, offer: Offer, job_id: str) -> Plan:
        return plan(request, **self._bounds(offer, job_id))

    def _warm_up_request(self, offer: Offer, steps: int) -> Text2ImageRequest:
        return Text2ImageRequest(prompt=WARM_UP, seed=0, num_inference_steps=steps)
