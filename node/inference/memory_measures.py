"""Measures against a lack of memory, on a pipeline that other jobs share: taken, and taken back."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import structlog
import torch

from node.inference.memory_plan import LEAST_TILE_PIXELS, Measure, MemoryPlan, tile_pixels
from node.inference.translation import is_out_of_memory

# These have memory of their own, and Diffusers' offload is made for them.
_OFFLOADING: Final = ("cuda", "xpu")
# Elsewhere torch's attention needs memory in proportion to the tokens: measured on a CPU, 8 heads
# of 4096 tokens take 8 MiB instead of 512. There slicing makes it slower and saves nothing.
_ATTENTION_SLICING: Final = ("mps",)

log = structlog.get_logger(__name__)


def measures_of(pipeline: Any, kind: str) -> frozenset[Measure]:
    """Find what can be done for a loaded pipeline on a device of this type."""
    # Combined pipelines (Kandinsky) run others, whose hooks outlive their removal here.
    offloads = kind in _OFFLOADING and not hasattr(pipeline, "decoder_pipe")
    unet = getattr(pipeline, "unet", None)
    checks = {
        Measure.ATTENTION_SLICING: (
            kind in _ATTENTION_SLICING and hasattr(unet, "set_attention_slice")
        ),
        Measure.VAE_TILING: bool(_tiles(pipeline, LEAST_TILE_PIXELS)),
        Measure.MODEL_OFFLOAD: offloads and pipeline.model_cpu_offload_seq is not None,
        Measure.SEQUENTIAL_OFFLOAD: offloads,
    }
    return frozenset(measure for measure, there in checks.items() if there)


@contextmanager
def taken(
    pipeline: Any, plan: MemoryPlan, device: str, *, width: int, height: int
) -> Iterator[None]:
    """Change the pipeline as the plan says, and change it back whatever is raised.

    Without offload, all weights are on the device inside: also where an earlier job had to leave
    them behind.
    """
    with ExitStack() as undo:
        undo.enter_context(_dtype_kept(pipeline))
        if Measure.VAE_TILING in plan.measures:
            undo.enter_context(_tiled(pipeline, tile_pixels(width, height)))
        if Measure.ATTENTION_SLICING in plan.measures:
            undo.enter_context(_attention_sliced(pipeline.unet))
        if Measure.SEQUENTIAL_OFFLOAD in plan.measures:
            undo.enter_context(_offloaded(pipeline, "enable_sequential_cpu_offload", device))
        elif Measure.MODEL_OFFLOAD in plan.measures:
            undo.enter_context(_offloaded(pipeline, "enable_model_cpu_offload", device))
        else:
            _ensure_placed(pipeline, device)
        yield


@contextmanager
def _dtype_kept(pipeline: Any) -> Iterator[None]:
    """Give the autoencoder its dtype back.

    Pipelines that decode float16 latents in float32 (SDXL) leave it there when they fail, and
    then every later call fails with mixed dtypes.
    """
    vae: Any = getattr(pipeline, "vae", None)
    dtype = getattr(vae, "dtype", None)
    try:
        yield
    finally:
        if dtype is not None and vae.dtype != dtype:
            vae.to(dtype=dtype)


@contextmanager
def _tiled(pipeline: Any, pixels: int) -> Iterator[None]:
    """Decode in tiles of this many pixels. Diffusers' own sizes are often those of the image."""
    vae = pipeline.vae
    tiles = {"use_tiling": True, **_tiles(pipeline, pixels)}
    before = {name: getattr(vae, name) for name in tiles}
    try:
        _set(vae, tiles)
        yield
    finally:
        _set(vae, before)


def _set(target: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        setattr(target, name, value)


def _tiles(pipeline: Any, pixels: int) -> dict[str, int]:
    """Spell a tile's size as the autoencoder does; empty where it has no tiles that we know."""
    vae, factor = getattr(pipeline, "vae", None), getattr(pipeline, "vae_scale_factor", None)
    if not factor:
        return {}
    latents = pixels // int(factor)
    stride = pixels * 3 // 4
    spellings = (
        {"tile_sample_min_size": pixels, "tile_latent_min_size": latents},
        {
            "tile_sample_min_height": pixels,
            "tile_sample_min_width": pixels,
            "tile_sample_stride_height": stride,
            "tile_sample_stride_width": stride,
        },
    )
    for attributes in spellings:
        if all(hasattr(vae, name) for name in ("use_tiling", *attributes)):
            derived = {"tile_latent_min_height": latents, "tile_latent_min_width": latents}
            return attributes | {name: each for name, each in derived.items() if hasattr(vae, name)}
    return {}


@contextmanager
def _attention_sliced(unet: Any) -> Iterator[None]:
    """Compute attention in slices of heads.

    Switching it off in Diffusers' way would put default processors in the place of the model's.
    """
    before = dict(unet.attn_processors)
    try:
        unet.set_attention_slice("auto")
        yield
    finally:
        unet.set_attn_processor(before)


@contextmanager
def _offloaded(pipeline: Any, enable: str, device: str) -> Iterator[None]:
    """Keep weights in the computer's memory, and bring to the device what is computed with."""
    try:
        getattr(pipeline, enable)(device=device)
        yield
    finally:
        pipeline.remove_all_hooks()
        _bring_back(pipeline, device)


def _bring_back(pipeline: Any, device: str) -> None:
    """Move the weights back; where they do not fit now, the next job does it."""
    try:
        pipeline.to(device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        log.warning("model.left_behind", device=device, family=type(pipeline).__name__)


def _ensure_placed(pipeline: Any, device: str) -> None:
    kind = device.partition(":")[0]
    if kind not in _OFFLOADING:
        return
    modules = (each for each in pipeline.components.values() if isinstance(each, torch.nn.Module))
    if any(weight.device.type != kind for each in modules for weight in each.parameters()):
        pipeline.to(device)
