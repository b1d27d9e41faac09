"""Image-to-image pipelines out of loaded text-to-image ones: other calls, the same weights."""

import inspect
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from diffusers import AutoPipelineForImage2Image
from diffusers.pipelines.auto_pipeline import AUTO_IMAGE2IMAGE_PIPELINES_MAPPING, _get_task_class

from node.errors import SetupError
from node.inference.checkpoint import Facts
from node.inference.pipeline import traits_of
from node.inference.traits import Kept, ModelTraits, Task


def has_image_pipeline(family: str) -> bool:
    """Say whether Diffusers links an image-to-image pipeline to a pipeline class."""
    linked = _get_task_class(
        AUTO_IMAGE2IMAGE_PIPELINES_MAPPING, family, throw_error_if_not_exist=False
    )
    return linked is not None


def derive(pipeline: Any) -> Any:
    """Make the image-to-image pipeline that shares every module of this one. Raises SetupError."""
    try:
        derived = AutoPipelineForImage2Image.from_pipe(pipeline)
    except ValueError as error:
        family, reason = type(pipeline).__name__, " ".join(str(error).split())[:300]
        raise SetupError(f"{family} gives no image-to-image pipeline: {reason}") from error
    derived.set_progress_bar_config(disable=True)
    return derived


def image_traits_of(
    pipeline: Any, facts: Facts, max_steps: int, max_pixels: int, kind: str
) -> ModelTraits:
    """Describe an image-to-image pipeline as `traits_of` does, with what it makes of a picture."""
    traits = traits_of(pipeline, facts, max_steps, max_pixels, kind)
    strength = inspect.signature(pipeline.__call__).parameters.get("strength")
    return replace(
        traits,
        task=Task.IMAGE2IMAGE,
        strength=None if strength is None else float(strength.default),
        kept=kept_by(running_class(pipeline)),
    )


def running_class(pipeline: Any) -> type[Any]:
    """Find the class that denoises; combined pipelines (Kandinsky) run another one."""
    return type(getattr(pipeline, "decoder_pipe", pipeline))


def kept_by(pipeline_class: type[Any]) -> Kept:
    """Find what a strength does to the number of inference steps, by asking the class.

    Some families round the steps that are left down, others up.
    """
    arguments = inspect.signature(pipeline_class.__call__).parameters
    # Latent consistency models choose other time steps instead of fewer.
    if "strength" not in arguments or "original_inference_steps" in arguments:
        return Kept.ALL
    given = {"num_inference_steps": 2, "strength": 0.75, "device": "cpu"}
    known = inspect.signature(pipeline_class.get_timesteps).parameters
    of = SimpleNamespace(scheduler=SimpleNamespace(timesteps=[1, 0], order=1))
    timesteps, *_ = pipeline_class.get_timesteps(
        of, **{name: value for name, value in given.items() if name in known}
    )
    return Kept.ROUNDED_DOWN if len(timesteps) == 1 else Kept.ROUNDED_UP
