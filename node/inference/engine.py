"""The models of a node on their device. Made and used by the inference thread alone."""

import gc
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import structlog
import torch

from node.component import DeviceInfo, Invocation
from node.errors import InternalError, JobError, JobStopped, SetupError
from node.inference.checkpoint import read_facts
from node.inference.device import DeviceChoice, choose_device
from node.inference.generation import Deliver, Seconds, StopRequested, generate
from node.inference.loras import applied
from node.inference.parameters import Plan
from node.inference.pipeline import load_pipeline, traits_of
from node.inference.probe import TorchProbe, memory, release
from node.inference.tokens import truncation_warnings
from node.inference.traits import ModelTraits
from node.inference.translation import translated

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger(__name__)


class Generated(NamedTuple):
    """What a job took, what of its prompts was not read, and the device after it."""

    seconds: Seconds
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
        self.broken = ""
        _log_choice(self._choice)

    def device_info(self) -> DeviceInfo:
        """Say what this engine computes on, and how full it is now."""
        choice = self._choice
        total, free = memory(choice.kind, int(choice.device.partition(":")[2] or 0))
        return DeviceInfo(choice.device, choice.dtype, choice.described(), total, free)

    def load(self, name: str, folder: Path) -> ModelTraits:
        """Load a model, unless it is loaded, and keep it. Raises SetupError, JobError."""
        if name not in self._pipelines:
            pipeline = self._guarded(f"loading {name}", load_pipeline, folder, self._choice)
            facts = read_facts(folder)
            self._traits[name] = traits_of(pipeline, facts, self._max_steps, self._max_pixels)
            self._pipelines[name] = pipeline
        return self._traits[name]

    def generate(
        self,
        name: str,
        plan: Plan,
        loras: Mapping[str, Path],
        invocation: Invocation,
        stop_requested: StopRequested,
        deliver: Deliver,
    ) -> Generated:
        """Make the images of a job with a loaded model. Raises JobError, JobStopped.

        Whatever is raised, the next job finds the pipeline as it was.
        """
        pipeline = self._pipelines[name]

        def run() -> Seconds:
            with applied(pipeline, plan.parameters.loras, loras):
                return generate(pipeline, plan, invocation, stop_requested, deliver)

        parameters = plan.parameters
        what = f"an image of {parameters.width}x{parameters.height}"
        warnings = truncation_warnings(pipeline, plan.texts)
        return Generated(self._guarded(what, run), warnings, self.device_info())

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
            if isinstance(error, torch.AcceleratorError):
                # A GPU's context does not recover from a fault in a kernel.
                self.broken = f"{self._choice.device} failed; the process must start anew"
            if isinstance(failure, InternalError):
                log.exception("pipeline.failed", what=what)
            # The frames of the traceback hold the tensors of the job.
            traceback.clear_frames(error.__traceback__)
        gc.collect()
        release(self._choice.kind)
        raise failure


def _log_choice(choice: DeviceChoice) -> None:
    fields = {"device": choice.device, "dtype": choice.dtype, "reason": choice.reason}
    if choice.warning:
        log.warning("device.fell_back", warning=choice.warning, **fields)
    else:
        log.info("device.chosen", torch=torch.__version__, **fields)
