"""The models of a node on their device. Made and used by the inference thread alone."""

import gc
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import structlog
import torch

from contracts.text2image import Identity, LoRA
from node.component import DeviceInfo, Invocation
from node.errors import InternalError, JobError, JobStopped, SetupError
from node.inference.checkpoint import read_facts
from node.inference.derived import derive, has_image_pipeline, image_traits_of
from node.inference.device import DeviceChoice, choose_device
from node.inference.generation import Deliver, Generation, Seconds, StopRequested
from node.inference.loras import applied
from node.inference.memory_ladder import MemoryLadder, Shape
from node.inference.memory_measures import taken
from node.inference.memory_plan import MemoryPlan, usable_measures
from node.inference.parameters import Plan
from node.inference.pipeline import load_pipeline, traits_of
from node.inference.probe import TorchProbe, builds_new_code, memory, release
from node.inference.tokens import truncation_warnings
from node.inference.traits import ModelTraits, Task, entry
from node.inference.translation import NO_PRIMITIVE, is_out_of_memory, translated

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger(__name__)


class Generated(NamedTuple):
    """What a job took, what its caller should know, and the device after it."""

    seconds: Seconds
    identity: Identity
    warnings: list[str]
    device: DeviceInfo


class Engine:
    """Loads pipelines and runs jobs on them, one at a time.

    `broken` says why no job can succeed any more, until the process is started anew; other
    threads may read it.
    """

    def __init__(self, device: str, dtype: str, max_steps: int, max_pixels: int) -> None:
        self._choice = choose_device(device, dtype, TorchProbe())
        self._max_steps = max_steps
        self._max_pixels = max_pixels
        self._pipelines: dict[str, Any] = {}
        self._traits: dict[str, ModelTraits] = {}
        self._ladder = MemoryLadder()
        self.broken = ""
        _log_choice(self._choice)

    def device_info(self) -> DeviceInfo:
        """Say what this engine computes on, and how full it is now."""
        choice = self._choice
        total, free = memory(choice.kind, int(choice.device.partition(":")[2] or 0))
        return DeviceInfo(choice.device, choice.dtype, choice.described(), total, free)

    def can(self, task: Task, family: str) -> bool:
        """Say whether models of a family can be loaded for a task."""
        return task is Task.TEXT2IMAGE or has_image_pipeline(family)

    def load(self, name: str, folder: Path, task: Task = Task.TEXT2IMAGE) -> ModelTraits:
        """Load a model, unless it is loaded, and keep it. Raises SetupError, JobError.

        Its pipelines, one for each task, are entries of their own and share its weights.
        """
        key, what = entry(name, task), f"the model {name}"
        if key in self._pipelines:
            return self._traits[key]
        facts, limits = read_facts(folder), (self._max_steps, self._max_pixels, self._choice.kind)
        if task is Task.TEXT2IMAGE:
            pipeline = self._guarded(what, load_pipeline, folder, self._choice)
            self._traits[key] = traits_of(pipeline, facts, *limits)
        else:
            self.load(name, folder)
            pipeline = self._guarded(what, derive, self._pipelines[name])
            self._traits[key] = image_traits_of(pipeline, facts, *limits)
        self._pipelines[key] = pipeline
        return self._traits[key]

    def generate(
        self,
        key: str,
        plan: Plan,
        loras: Mapping[str, Path],
        invocation: Invocation,
        stop_requested: StopRequested,
        deliver: Deliver,
    ) -> Generated:
        """Make the images of a job with a loaded entry. Raises JobError, JobStopped.

        Where memory runs out, the image is made again with the next cheaper plan. Whatever is
        raised, the next job finds the pipeline as it was.
        """
        work = Generation(plan, invocation, stop_requested, deliver)
        warnings = truncation_warnings(self._pipelines[key], plan.texts)
        parameters = plan.parameters
        shape = Shape(key, parameters.width or 0, parameters.height or 0)
        memory_plan = self._ladder.climb(
            shape,
            usable_measures(
                self._traits[key].measures,
                strict=parameters.strict,
                width=shape.width,
                height=shape.height,
            ),
            partial(self._attempt, shape, work, plan.parameters.loras, loras),
            lambda: work.phase,
        )
        warnings += memory_plan.warnings
        return Generated(work.seconds, memory_plan.identity, warnings, self.device_info())

    def _attempt(
        self,
        shape: Shape,
        work: Generation,
        loras: Sequence[LoRA],
        files: Mapping[str, Path],
        memory_plan: MemoryPlan,
    ) -> None:
        pipeline = self._pipelines[shape.model]
        width, height = shape.width, shape.height
        way = f" with {memory_plan}" if memory_plan.measures else ""
        what = f"an image of {width}x{height}{way}"

        def run() -> None:
            with (
                applied(pipeline, loras, files),
                taken(pipeline, memory_plan, self._choice.device, width=width, height=height),
            ):
                # Guarded by itself: what it had is freed before the weights move back.
                self._guarded(what, work.run, pipeline)

        self._guarded(what, run)

    def close(self) -> None:
        """Free every model."""
        self._pipelines.clear()
        self._traits.clear()
        gc.collect()
        release(self._choice.kind)

    def _guarded(self, what: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call, and raise what goes wrong in our own words, with the device's memory freed."""
        try:
            return function(*args, **kwargs)
        except (JobError, JobStopped, SetupError):
            raise
        except Exception as error:
            failure = translated(error, what, self._choice.device)
            self.broken = self.broken or self._lasting_fault(error)
            if isinstance(failure, InternalError):
                log.exception("pipeline.failed", what=what)
            # The frames of the traceback hold the tensors of the job.
            traceback.clear_frames(error.__traceback__)
        gc.collect()
        release(self._choice.kind)
        raise failure

    def _lasting_fault(self, error: Exception) -> str:
        """Say why nothing can succeed after this error; empty where the next job can."""
        if is_out_of_memory(error):
            return ""
        if isinstance(error, torch.AcceleratorError):
            # A GPU's context does not recover from a fault in a kernel.
            return f"{self._choice.device} failed; the process must start anew"
        if NO_PRIMITIVE in str(error) and not builds_new_code():
            return (
                "oneDNN had no memory for code and takes no new shapes; the process must start anew"
            )
        return ""


def _log_choice(choice: DeviceChoice) -> None:
    fields = {"device": choice.device, "dtype": choice.dtype, "reason": choice.reason}
    if choice.warning:
        log.warning("device.fell_back", warning=choice.warning, **fields)
    else:
        log.info("device.chosen", torch=torch.__version__, **fields)
