"""What the files of a Diffusers folder say, without loading a weight or importing torch."""

import json
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any, Final

from contracts.text2image import SIZE_GRANULARITY
from node.errors import SetupError
from node.inference.traits import Preferences

PREFERENCES_FILE: Final = "generation_config.json"
"""Optional in a checkpoint; the name and the idea are Transformers'."""

# Where the pipeline class does not read its native size from the config of its denoiser.
_FIXED_LATENT_SIZE: Final = {"FluxPipeline": 128}
# Families that pack 2 x 2 latents into a token without saying so in the config.
_PACKED: Final = ("FluxPipeline",)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a model before it is loaded; a size of None is not known."""

    family: str
    native_size: tuple[int, int] | None
    granularity: int
    preferences: Preferences
    variant: str | None = None


def read_facts(folder: Path) -> Facts:
    """Read a Diffusers folder. Raises SetupError where it is none, or has no safetensors."""
    family = _family(folder)
    vae_factor = _vae_factor(_config(folder / "vae"))
    denoiser = _config(folder / "unet") or _config(folder / "transformer")
    patch = 2 if family in _PACKED else int(denoiser.get("patch_size") or 1)
    preferences = read_preferences(folder)
    return Facts(
        family=family,
        native_size=_native_size(family, denoiser, vae_factor, preferences),
        granularity=lcm(SIZE_GRANULARITY, (vae_factor or 1) * patch),
        preferences=preferences,
        variant=_variant(folder),
    )


def read_preferences(folder: Path) -> Preferences:
    """Read the optional preferences of a checkpoint's publisher."""
    data = _json(folder / PREFERENCES_FILE)
    steps, guidance = data.get("num_inference_steps"), data.get("guidance_scale")
    width, height = data.get("width"), data.get("height")
    words = data.get("vocabulary")
    return Preferences(
        width=width if isinstance(width, int) else None,
        height=height if isinstance(height, int) else None,
        num_inference_steps=steps if isinstance(steps, int) else None,
        guidance_scale=float(guidance) if isinstance(guidance, int | float) else None,
        vocabulary=frozenset(map(str, words)) if isinstance(words, list) else frozenset(),
    )


def _family(folder: Path) -> str:
    index = _json(folder / "model_index.json")
    family = index.get("_class_name")
    if not isinstance(family, str):
        raise SetupError(f"{folder} is not a Diffusers model: it has no usable model_index.json")
    return family


def _variant(folder: Path) -> str | None:
    """Name the variant (`fp16`) to load where there are no plain weights. Raises SetupError."""
    names = [path.name for path in folder.glob("*/*.safetensors")]
    if not names:
        raise SetupError(f"{folder} has no safetensors weights, and no others are loaded")
    variants = {variant_of(name) for name in names}
    return None if None in variants else min(filter(None, variants))


def variant_of(name: str) -> str | None:
    """Read the variant off a file name.

    `diffusion_pytorch_model.fp16-00001-of-00002.safetensors` -> `fp16`; plain weights: None.
    """
    parts = name.rpartition("/")[2].split(".")
    return parts[1].partition("-")[0] if len(parts) > 2 else None


def _native_size(
    family: str, denoiser: dict[str, Any], vae_factor: int | None, preferences: Preferences
) -> tuple[int, int] | None:
    if preferences.width and preferences.height:
        return preferences.width, preferences.height
    latent = _FIXED_LATENT_SIZE.get(family) or denoiser.get("sample_size")
    if not latent or not vae_factor:
        return None
    height, width = latent if isinstance(latent, list) else (latent, latent)
    return width * vae_factor, height * vae_factor


def _vae_factor(vae: dict[str, Any]) -> int | None:
    blocks = vae.get("block_out_channels")
    return 2 ** (len(blocks) - 1) if blocks else None


def _config(folder: Path) -> dict[str, Any]:
    return _json(folder / "config.json")


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
