"""A Diffusers pipeline from a local folder, and what it can do with a request."""

import inspect
from math import lcm
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, AutoPipelineForText2Image

from contracts.text2image import SIZE_GRANULARITY
from node.errors import SetupError
from node.inference.checkpoint import Facts, read_facts
from node.inference.device import DeviceChoice
from node.inference.memory_measures import measures_of
from node.inference.thread import ONE_LOAD_AT_A_TIME
from node.inference.traits import Guidance, ModelTraits

DTYPES: Final = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
DEFAULT_STEPS: Final = 50
"""Where a pipeline names none, as most of them do."""

# Convolutions of these device types are faster with channels last; MPS has none of it.
_CHANNELS_LAST: Final = ("cpu", "cuda", "xpu")


def load_pipeline(folder: Path, choice: DeviceChoice) -> Any:
    """Load a text-to-image pipeline to the device. Raises SetupError where it is none.

    Only safetensors are read, and no code that comes with a model is run.
    """
    facts = read_facts(folder)
    try:
        with ONE_LOAD_AT_A_TIME:
            pipeline = AutoPipelineForText2Image.from_pretrained(
                str(folder),
                dtype=DTYPES[choice.dtype],
                variant=facts.variant,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
            )
    except (OSError, ValueError, KeyError, ImportError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SetupError(f"{folder} ({facts.family}) cannot be loaded: {reason}") from error
    pipeline.set_progress_bar_config(disable=True)
    if pipeline.dtype != DTYPES[choice.dtype]:
        # Older Diffusers know the argument by another name, and ignore this one.
        pipeline.to(DTYPES[choice.dtype])
    pipeline.to(choice.device)
    _tune(pipeline, choice)
    return pipeline


def _tune(pipeline: Any, choice: DeviceChoice) -> None:
    vae = getattr(pipeline, "vae", None)
    if vae is not None and hasattr(vae, "enable_slicing"):
        # One sample at a time: a batched decode rounds differently from that of one image.
        vae.enable_slicing()
    if choice.kind in _CHANNELS_LAST:
        for module in (getattr(pipeline, "unet", None), vae):
            if module is not None and not _has_5d_weights(module):
                module.to(memory_format=torch.channels_last)


def _has_5d_weights(module: Any) -> bool:
    """Say whether a module convolves videos: channels-last exists for 4 dimensions only."""
    return any(weight.dim() == 5 for weight in module.parameters())


def traits_of(
    pipeline: Any, facts: Facts, max_steps: int, max_pixels: int, kind: str
) -> ModelTraits:
    """Describe a pipeline on a device of a kind; its defaults are kept within the node's limits."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(pipeline.__call__).parameters.items()
    }
    granularity = _granularity(pipeline)
    width, height = _native_size(pipeline, facts)
    largest = max_pixels - max_pixels % granularity
    guidance = _guidance(pipeline, defaults)
    wanted = facts.preferences
    steps = wanted.num_inference_steps or defaults.get("num_inference_steps") or DEFAULT_STEPS
    scale = wanted.guidance_scale
    if scale is None:
        scale = defaults.get("guidance_scale")
    return ModelTraits(
        family=type(pipeline).__name__,
        arguments=frozenset(defaults),
        native_width=min(width, largest),
        native_height=min(height, largest),
        granularity=granularity,
        num_inference_steps=min(int(steps), max_steps),
        guidance_scale=float(scale) if isinstance(scale, int | float) else None,
        guidance=guidance,
        negative_prompt="negative_prompt" in defaults and guidance is Guidance.CLASSIFIER_FREE,
        scheduler=type(pipeline.scheduler).__name__,
        schedulers=_schedulers(pipeline),
        previews="callback_on_step_end" in defaults and _can_preview(pipeline),
        loras=hasattr(pipeline, "load_lora_weights"),
        vocabulary=wanted.vocabulary,
        measures=measures_of(pipeline, kind),
    )


def _schedulers(pipeline: Any) -> tuple[str, ...]:
    if hasattr(pipeline, "decoder_pipe"):
        # Combined pipelines (Kandinsky, Wuerstchen) run others, which have schedulers of their own.
        return (type(pipeline.scheduler).__name__,)
    return compatible_schedulers(pipeline.scheduler)


def compatible_schedulers(scheduler: Any) -> tuple[str, ...]:
    """Name the noise schedulers that can take the place of this one, sorted.

    Diffusers' own list has some that would drop the model's noise schedule (EDM), or that need a
    library which is not installed.
    """
    found = {type(scheduler).__name__}
    for other in scheduler.compatibles:
        parameters = inspect.signature(other.__init__).parameters
        if "beta_schedule" in scheduler.config and "beta_schedule" not in parameters:
            continue
        try:
            other.from_config(scheduler.config).set_timesteps(4)
        except (ImportError, ValueError, NotImplementedError, TypeError):
            continue
        found.add(other.__name__)
    return tuple(sorted(found))


def make_scheduler(scheduler: Any, name: str) -> Any:
    """Build a fresh scheduler: they count steps, so one that was used is not used again."""
    classes = {type(scheduler).__name__: type(scheduler)}
    classes |= {other.__name__: other for other in scheduler.compatibles}
    return classes[name].from_config(scheduler.config)


def _granularity(pipeline: Any) -> int:
    """Find what width and height must be multiples of, so that no family rounds them."""
    factor = int(getattr(pipeline, "vae_scale_factor", 1) or 1)
    transformer = getattr(pipeline, "transformer", None)
    patch = getattr(transformer, "config", {}).get("patch_size") or 1
    # Flux and Qwen pack 2 x 2 latents into a token, which only their image processor knows.
    processor = getattr(pipeline, "image_processor", None)
    packed = getattr(processor, "config", {}).get("vae_scale_factor") or 1
    patch = patch if isinstance(patch, int) else max(patch)
    return lcm(SIZE_GRANULARITY, factor * patch, int(packed))


def _native_size(pipeline: Any, facts: Facts) -> tuple[int, int]:
    if facts.native_size is not None:
        return facts.native_size
    size = int(getattr(pipeline, "default_sample_size", 64))
    pixels = size * int(getattr(pipeline, "vae_scale_factor", 8))
    return pixels, pixels


def _guidance(pipeline: Any, defaults: dict[str, Any]) -> Guidance:
    if "guidance_scale" not in defaults:
        return Guidance.NONE
    unet = getattr(pipeline, "unet", None)
    if unet is not None:
        # Latent consistency models take the scale as an embedding.
        distilled = getattr(unet.config, "time_cond_proj_dim", None) is not None
        return Guidance.DISTILLED if distilled else Guidance.CLASSIFIER_FREE
    embeds = getattr(getattr(pipeline, "transformer", None), "config", {}).get("guidance_embeds")
    if embeds is None:
        return Guidance.CLASSIFIER_FREE
    return Guidance.DISTILLED if embeds else Guidance.NONE


def _can_preview(pipeline: Any) -> bool:
    return isinstance(getattr(pipeline, "vae", None), AutoencoderKL | AutoencoderTiny)
