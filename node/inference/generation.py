"""One job through an ordinary Diffusers call: every image alone, a check between any two steps.

The images of a job are made one after the other, not as a batch. Measured on the tiny checkpoints
of the tests (CPU, torch 2.13): a batch of 4 in float32 has other bytes than 4 single calls, one
after the other has the same; so `identity` is `exact`, image i equals the single request with
seed + i, each image is published as soon as it is done, and memory is bounded by one image.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contracts.result import Status
from node.component import Invocation
from node.errors import JobStopped
from node.inference.images import encode_preview
from node.inference.memory_plan import Phase
from node.inference.parameters import Plan
from node.inference.pipeline import make_scheduler
from node.inference.previews import preview
from node.inference.probe import synchronize


@dataclass(frozen=True, slots=True)
class Picture:
    """Height x width x 3 float values of 0..1, and how they came about."""

    index: int
    seed: int
    pixels: NDArray[np.float32]
    nsfw: bool | None


@dataclass(slots=True)
class Seconds:
    """Where the time of a job went."""

    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0


Deliver = Callable[[Picture], None]
StopRequested = Callable[[], Status | None]


class Generation:
    """The images of one job. A run that failed can be followed by another."""

    def __init__(
        self,
        plan: Plan,
        invocation: Invocation,
        stop_requested: StopRequested,
        deliver: Deliver,
    ) -> None:
        self._plan = plan
        self._deliver = deliver
        self._delivered = 0
        self._steps = _Steps(plan, invocation, stop_requested)

    @property
    def seconds(self) -> Seconds:
        """What it took so far, vain runs included."""
        return self._steps.seconds

    @property
    def phase(self) -> Phase | None:
        """What is done, or was done when it failed; None: this pipeline does not tell."""
        return self._steps.phase if self._plan.reports_steps else None

    def run(self, pipeline: Any) -> None:
        """Make the images that are not there yet, and deliver each when it is done.

        Raises JobStopped between two steps, and whatever torch and Diffusers raise.
        """
        original = pipeline.scheduler
        try:
            for index, seed in list(enumerate(self._plan.parameters.seed))[self._delivered :]:
                self._deliver(self._make(pipeline, original, index, seed))
                self._delivered += 1
        finally:
            pipeline.scheduler = original

    def _make(self, pipeline: Any, scheduler: Any, index: int, seed: int) -> Picture:
        self._steps.begin(index)
        pipeline.scheduler = make_scheduler(scheduler, self._plan.parameters.scheduler or "")
        with self._steps.watching(pipeline) as arguments:
            # A CPU generator draws the same noise for every device.
            generator = torch.Generator("cpu").manual_seed(seed)
            output = pipeline(
                **self._plan.arguments, **arguments, generator=generator, output_type="np"
            )
        self._steps.end()
        return Picture(index, seed, np.asarray(output.images[0]), _nsfw(output))


def _nsfw(output: Any) -> bool | None:
    verdicts = getattr(output, "nsfw_content_detected", None)
    return bool(verdicts[0]) if verdicts else None


class _Steps:
    """What happens between two inference steps of a job: progress, previews, stop, clock.

    Steps that are repeated after a lack of memory are not reported again: progress never falls.
    """

    def __init__(self, plan: Plan, invocation: Invocation, stop_requested: StopRequested) -> None:
        self._plan = plan
        self._invocation = invocation
        self._stop_requested = stop_requested
        self._previews = _preview_steps(plan)
        self._per_image = plan.steps_per_image
        self._done = 0
        self._image = 0
        self._mark = 0.0
        self.phase = Phase.ENCODE
        self.seconds = Seconds()

    def begin(self, image: int) -> None:
        """Start the next image, unless the job must stop."""
        self._raise_if_stopped()
        self._image = image
        self.phase = Phase.ENCODE
        self._mark = time.perf_counter()

    def end(self) -> None:
        """The pipeline returned an image."""
        self.seconds.decode += self._lap()

    @contextmanager
    def watching(self, pipeline: Any) -> Iterator[dict[str, Any]]:
        """Yield call arguments that make the pipeline call back."""
        if not self._plan.reports_steps:
            yield {}
            return
        denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
        encoder = getattr(getattr(pipeline, "vae", None), "encoder", None)
        watched = ((encoder, self._on_picture), (denoiser, self._on_forward))
        hooks = [
            # Before whatever else may fail there.
            module.register_forward_pre_hook(call, prepend=True)
            for module, call in watched
            if module is not None
        ]
        try:
            yield {"callback_on_step_end": self._on_step_end}
        finally:
            for hook in hooks:
                hook.remove()

    def _on_picture(self, *_: Any) -> None:
        """Note that a picture is being encoded, where the image begins with one."""
        if self.phase is Phase.ENCODE:
            self.phase = Phase.ENCODE_PICTURE

    def _on_forward(self, *_: Any) -> None:
        """Note the first forward pass of the denoiser: what it begins with is encoded by then."""
        if self.phase in (Phase.ENCODE, Phase.ENCODE_PICTURE):
            self.phase = Phase.DENOISE
            self.seconds.encode += self._lap()

    def _on_step_end(
        self, pipeline: Any, step: int, _timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        # Schedulers of second order, and PNDM, take more time steps than inference steps.
        timesteps = int(getattr(pipeline, "num_timesteps", 0) or self._per_image)
        if step + 1 == timesteps:
            # Where weights are offloaded, the pipeline's `device` is where they rest.
            synchronize(pipeline._execution_device.type)
            self.seconds.denoise += self._lap()
            self.phase = Phase.DECODE
        done = self._image * self._per_image + (step + 1) * self._per_image // timesteps
        if done > self._done:
            self._done = done
            self._report(pipeline, tensors)
        if step + 1 < timesteps:
            self._raise_if_stopped()
        return {}

    def _report(self, pipeline: Any, tensors: dict[str, Any]) -> None:
        self._invocation.inference_step(self._done, self._plan.total_steps)
        if self._done in self._previews and "latents" in tensors:
            width, height = self._plan.parameters.width or 0, self._plan.parameters.height or 0
            pixels = preview(pipeline, tensors["latents"], width, height)
            self._invocation.preview(self._done, encode_preview(pixels), "image/jpeg")

    def _raise_if_stopped(self) -> None:
        if (status := self._stop_requested()) is not None:
            raise JobStopped(status)

    def _lap(self) -> float:
        now = time.perf_counter()
        lap, self._mark = now - self._mark, now
        return lap


def _preview_steps(plan: Plan) -> frozenset[int]:
    """Spread the previews evenly over the steps of the job."""
    total, count = plan.total_steps, plan.previews
    if count >= total:
        return frozenset(range(1, total + 1))
    return frozenset(max(1, round(number * total / (count + 1))) for number in range(1, count + 1))
