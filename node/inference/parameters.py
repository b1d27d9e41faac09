"""A request and a model to effective parameters: every field is honoured, refused, or warned of.

Pure: no torch, no clock. Random seeds are passed in as a function.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from contracts.discovery import ModelLimits
from contracts.message import MAX_SEED
from contracts.text2image import (
    EffectiveParameters,
    OutputFormat,
    Text2ImageRequest,
)
from node.errors import InvalidRequest
from node.inference.images import DEFAULT_QUALITY
from node.inference.traits import Guidance, ModelTraits
from node.inference.vocabulary import unknown_words_warning

T = TypeVar("T")

# Diffusers would change the picture's size, or the words of the prompt, behind the caller's back.
_TAKEN_LITERALLY: Final = {"use_resolution_binning": False, "clean_caption": False}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: effective parameters, and what could not be honoured.

    `arguments` go to the pipeline's call as they are; the generator, the callback and the output
    type are added where torch is known. `reports_steps` says whether there can be a callback,
    `previews` how many can be made. `kept_steps` are the inference steps that each image takes
    where they are fewer than its parameters say.
    """

    parameters: EffectiveParameters
    arguments: dict[str, Any]
    warnings: tuple[str, ...]
    reports_steps: bool = True
    previews: int = 0
    kept_steps: int | None = None

    @property
    def texts(self) -> dict[str, str]:
        """The prompts that the pipeline gets, by request field."""
        names = ("prompt", "negative_prompt")
        return {name: self.arguments[name] for name in names if name in self.arguments}

    @property
    def steps_per_image(self) -> int:
        """Inference steps that are run for each image."""
        return _given(self.kept_steps, self.parameters.num_inference_steps or 1)

    @property
    def total_steps(self) -> int:
        """Inference steps of the whole job: its images are made one after the other."""
        return self.steps_per_image * len(self.parameters.seed)


def check_limits(
    request: Text2ImageRequest, limits: ModelLimits, loras: Collection[str] = ()
) -> None:
    """Refuse what the node does not offer. Raises InvalidRequest."""
    for name, pixels in (("width", request.width), ("height", request.height)):
        _check_range(name, pixels, limits.min_pixels, limits.max_pixels)
        if pixels is not None and pixels % limits.size_granularity:
            below = pixels - pixels % limits.size_granularity
            above = below + limits.size_granularity
            nearest = below if below >= limits.min_pixels else above
            raise InvalidRequest(
                f"{name}: {pixels} is not a multiple of {limits.size_granularity}, which this "
                f"model needs; {nearest} is"
            )
    _check_range("num_images_per_prompt", request.num_images_per_prompt, 1, limits.max_images)
    _check_range("num_inference_steps", request.num_inference_steps, 1, limits.max_inference_steps)
    for field, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt)):
        if text is not None and len(text) > limits.max_prompt_chars:
            raise InvalidRequest(
                f"{field}: {len(text)} characters, at most {limits.max_prompt_chars} are read"
            )
    _check_loras(request, loras)


def plan(
    request: Text2ImageRequest,
    *,
    model: str,
    traits: ModelTraits,
    limits: ModelLimits,
    loras: Collection[str],
    random_seed: int,
    kept_steps: int | None = None,
) -> Plan:
    """Decide what to run. Raises InvalidRequest."""
    check_limits(request, limits, loras)
    _check_scheduler(request, traits)
    parameters = EffectiveParameters(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        model=model,
        width=request.width or traits.native_width,
        height=request.height or traits.native_height,
        num_inference_steps=request.num_inference_steps or traits.num_inference_steps,
        guidance_scale=_given(request.guidance_scale, traits.guidance_scale),
        num_images_per_prompt=request.num_images_per_prompt,
        seed=_seeds(request, random_seed),
        scheduler=request.scheduler or traits.scheduler,
        loras=request.loras,
        output_format=request.output_format,
        output_quality=_quality(request),
        response=request.response,
        previews=request.previews,
        strict=request.strict,
    )
    made = Plan(
        parameters,
        _arguments(parameters, traits),
        (),
        reports_steps="callback_on_step_end" in traits.arguments,
        previews=request.previews if traits.previews else 0,
        kept_steps=kept_steps,
    )
    return replace(made, warnings=tuple(_warnings(request, made, traits)))


def _arguments(parameters: EffectiveParameters, traits: ModelTraits) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "prompt": parameters.prompt,
        "width": parameters.width,
        "height": parameters.height,
        "num_inference_steps": parameters.num_inference_steps,
        "num_images_per_prompt": 1,
        **_TAKEN_LITERALLY,
    }
    if parameters.guidance_scale is not None:
        wanted["guidance_scale"] = parameters.guidance_scale
    if _negative_prompt_counts(parameters, traits):
        wanted["negative_prompt"] = parameters.negative_prompt
    return {name: value for name, value in wanted.items() if name in traits.arguments}


def _warnings(request: Text2ImageRequest, made: Plan, traits: ModelTraits) -> list[str]:
    parameters = made.parameters
    checks = {
        "negative_prompt has no effect: this model has no classifier-free guidance": (
            request.negative_prompt is not None and not traits.negative_prompt
        ),
        "negative_prompt has no effect with guidance_scale at most 1": (
            request.negative_prompt is not None
            and traits.negative_prompt
            and not _negative_prompt_counts(parameters, traits)
        ),
        "guidance_scale has no effect on this model": (
            request.guidance_scale is not None and traits.guidance is Guidance.NONE
        ),
        "num_inference_steps has no effect on this model": (
            request.num_inference_steps is not None
            and "num_inference_steps" not in traits.arguments
        ),
        f"this model makes images of {traits.native_width}x{traits.native_height} only": (
            (parameters.width, parameters.height) != (traits.native_width, traits.native_height)
            and not traits.any_size
        ),
        "previews are not available for this model": request.previews > 0 and not traits.previews,
        f"previews: {made.steps_per_image} inference steps give fewer than "
        f"{request.previews} previews": (
            traits.previews
            and request.previews > made.steps_per_image * parameters.num_images_per_prompt
        ),
        "this model reports no inference steps: progress, cancel and deadline act between images": (
            "callback_on_step_end" not in traits.arguments
        ),
    }
    unknown = unknown_words_warning(parameters.prompt, traits.vocabulary)
    return [text for text, applies in checks.items() if applies] + ([unknown] if unknown else [])


def _negative_prompt_counts(parameters: EffectiveParameters, traits: ModelTraits) -> bool:
    return (
        parameters.negative_prompt is not None
        and traits.negative_prompt
        and (
            traits.guidance is not Guidance.CLASSIFIER_FREE or (parameters.guidance_scale or 0) > 1
        )
    )


def _seeds(request: Text2ImageRequest, random_seed: int) -> list[int]:
    if isinstance(request.seed, list):
        return list(request.seed)
    first = random_seed if request.seed is None else request.seed
    return [(first + index) % (MAX_SEED + 1) for index in range(request.num_images_per_prompt)]


def _quality(request: Text2ImageRequest) -> int | None:
    if request.output_format is OutputFormat.PNG:
        return None
    return _given(request.output_quality, DEFAULT_QUALITY)


def _given(value: T | None, default: T) -> T:
    return default if value is None else value


def _check_range(name: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise InvalidRequest(
            f"{name}: {value} is outside of {least}..{most}, what this node offers"
        )


def _check_scheduler(request: Text2ImageRequest, traits: ModelTraits) -> None:
    if request.scheduler is not None and request.scheduler not in traits.schedulers:
        offered = ", ".join(traits.schedulers)
        raise InvalidRequest(f"scheduler: this model has no {request.scheduler!r}, but {offered}")


def _check_loras(request: Text2ImageRequest, offered: Collection[str]) -> None:
    names = [lora.name for lora in request.loras]
    for name in names:
        if name not in offered:
            offers = f"it offers {', '.join(sorted(offered))}" if offered else "it offers none"
            raise InvalidRequest(f"loras: this node has no {name!r} for the model; {offers}")
        if names.count(name) > 1:
            raise InvalidRequest(f"loras: {name!r} is named more than once")
