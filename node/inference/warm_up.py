"""The image that a component makes before it calls itself ready."""

from typing import Final

from contracts.events import ServiceEvent
from contracts.result import Status
from contracts.text2image import GeneratedImage
from node.component import JobContext

WARM_UP: Final = "warm-up"
"""Its prompt and its job id."""
WARM_UP_STEPS: Final = 2


class WarmUp:
    """The invocation of an image that nobody asked for."""

    job_id: str = WARM_UP
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
