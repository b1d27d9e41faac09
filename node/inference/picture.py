"""A request with a picture, and a model, to effective parameters: what `parameters` does, and
what the picture and the strength add to it.

Pure, but for `resized`. No torch.
"""

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from PIL import Image

from contracts.discovery import ModelLimits
from contracts.image2image import Image2ImageParameters, Image2ImageRequest
from node.errors import InvalidRequest
from node.inference.parameters import Plan, plan
from node.inference.traits import Kept, ModelTraits


@dataclass(frozen=True, slots=True)
class Source:
    """The picture of a request, as RGB, with the SHA-256 of its file."""

    image: Image.Image
    sha256: str


def plan_from_picture(
    request: Image2ImageRequest,
    source: Source,
    *,
    model: str,
    traits: ModelTraits,
    limits: ModelLimits,
    **bounds: Any,
) -> Plan:
    """Decide what to run. The picture still has its own size: see `resized`.

    Raises InvalidRequest.
    """
    width, height = fitted_size(source.image.size, request.width, request.height, limits)
    steps = request.num_inference_steps or traits.num_inference_steps
    strength = None if traits.strength is None else request.strength or traits.strength
    made = plan(
        request.model_copy(update={"width": width, "height": height}),
        model=model,
        traits=traits,
        limits=limits,
        kept_steps=kept_steps(steps, strength, traits.kept),
        **bounds,
    )
    further: dict[str, Any] = {"image": source.image}
    if strength is not None:
        further["strength"] = strength
    parameters = Image2ImageParameters(
        **dict(made.parameters),
        strength=strength,
        denoising_steps=made.steps_per_image,
        image_sha256=source.sha256,
    )
    return replace(
        made,
        parameters=parameters,
        arguments=made.arguments | further,
        warnings=(*made.warnings, *_warnings(request, source, parameters, traits.kept)),
    )


def fitted_size(
    size: tuple[int, int], width: int | None, height: int | None, limits: ModelLimits
) -> tuple[int, int]:
    """Choose the size of the images: as asked, else as the picture, within the limits.

    A picture that is too large or too small keeps its proportions; so it does where one side is
    given.
    """
    own_width, own_height = size
    if width is not None or height is not None:
        scale = width / own_width if width is not None else (height or 0) / own_height
    else:
        least, most = limits.min_pixels, limits.max_pixels
        scale = min(max(1.0, least / min(size)), most / max(size))
    return width or _on_grid(own_width * scale, limits), height or _on_grid(
        own_height * scale, limits
    )


def _on_grid(pixels: float, limits: ModelLimits) -> int:
    """Round to what the model can make."""
    grid = limits.size_granularity
    least, most = ceil(limits.min_pixels / grid), limits.max_pixels // grid
    return min(max(round(pixels / grid), least), most) * grid


def kept_steps(steps: int, strength: float | None, kept: Kept) -> int:
    """Count the inference steps that are run, as Diffusers does. Raises InvalidRequest at none."""
    if strength is None or kept is Kept.ALL:
        return steps
    wanted = min(steps * strength, steps)
    left = int(wanted) if kept is Kept.ROUNDED_DOWN else steps - int(max(steps - wanted, 0))
    if left < 1:
        raise InvalidRequest(
            f"strength: {strength:g} of {steps} inference steps leaves none to run; ask for more "
            f"steps, or for a strength of at least {ceil(100 / steps) / 100:g}"
        )
    return left


def _warnings(
    request: Image2ImageRequest, source: Source, parameters: Image2ImageParameters, kept: Kept
) -> list[str]:
    width, height = source.image.size
    checks = {
        "strength has no effect on this model": (
            request.strength is not None and parameters.strength is None
        ),
        f"strength: {parameters.strength} of {parameters.num_inference_steps} inference steps is "
        "rounded up to all of them, which leaves little or nothing of the picture": (
            kept is Kept.ROUNDED_UP
            and parameters.strength != 1.0
            and parameters.denoising_steps == parameters.num_inference_steps
        ),
        f"image: resized from {width}x{height} to {parameters.width}x{parameters.height}": (
            (parameters.width, parameters.height) != (width, height)
        ),
    }
    return [text for text, applies in checks.items() if applies]


def resized(made: Plan) -> Plan:
    """Bring the picture of a plan to the size of its images; takes a moment."""
    size = (made.parameters.width or 0, made.parameters.height or 0)
    image: Image.Image = made.arguments["image"]
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    return replace(made, arguments=made.arguments | {"image": image})
