"""What the files of a model say before a weight of it is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest

from node.errors import SetupError
from node.inference.checkpoint import Facts, read_facts, read_preferences, variant_of
from node.inference.traits import Preferences

VAE = {"block_out_channels": [1, 2, 3, 4]}


def write(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def model(folder: Path, family: str = "StableDiffusionPipeline", **more: Any) -> Path:
    files = {
        "model_index.json": {"_class_name": family},
        "vae/config.json": VAE,
        "unet/config.json": {"sample_size": 64},
        "unet/w.safetensors": "",
    }
    return write(folder, files | more)


def test_a_unet_of_64_latents_makes_512_pixels(tmp_path: Path) -> None:
    expected = Facts("StableDiffusionPipeline", (512, 512), 8, Preferences())
    assert read_facts(model(tmp_path)) == expected


def test_a_sample_size_can_be_height_and_width(tmp_path: Path) -> None:
    folder = model(tmp_path, **{"unet/config.json": {"sample_size": [32, 64]}})
    assert read_facts(folder).native_size == (512, 256)


def test_a_transformer_of_patches_has_a_coarser_grid(tmp_path: Path) -> None:
    config = {"sample_size": 128, "patch_size": 2}
    folder = model(tmp_path, "StableDiffusion3Pipeline", **{"transformer/config.json": config})
    (folder / "unet" / "config.json").unlink()
    facts = read_facts(folder)
    assert (facts.granularity, facts.native_size) == (16, (1024, 1024))


def test_flux_packs_latents_and_is_made_for_1024_pixels(tmp_path: Path) -> None:
    folder = model(tmp_path, "FluxPipeline", **{"transformer/config.json": {"patch_size": 1}})
    (folder / "unet" / "config.json").unlink()
    facts = read_facts(folder)
    assert (facts.granularity, facts.native_size) == (16, (1024, 1024))


def test_what_the_files_do_not_say_is_not_known(tmp_path: Path) -> None:
    folder = write(
        tmp_path, {"model_index.json": {"_class_name": "Other"}, "decoder/w.safetensors": ""}
    )
    facts = read_facts(folder)
    assert (facts.native_size, facts.granularity) == (None, 8)


def test_the_publisher_may_prefer_other_values(tmp_path: Path) -> None:
    wanted = {"width": 128, "height": 96, "num_inference_steps": 4, "guidance_scale": 0}
    folder = model(tmp_path, **{"generation_config.json": wanted})
    assert read_facts(folder).preferences == Preferences(128, 96, 4, 0.0)
    assert read_facts(folder).native_size == (128, 96)


@pytest.mark.parametrize(
    "content", ["{", "[]", "null", '{"width": "128", "guidance_scale": "7", "height": 1.5}', "\xff"]
)
def test_preferences_that_make_no_sense_are_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "generation_config.json").write_bytes(content.encode("latin-1"))
    assert read_preferences(tmp_path) == Preferences()


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"_class_name": 3}'])
def test_a_folder_that_is_no_model_is_one_clear_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "model_index.json").write_text(content)
    with pytest.raises(SetupError, match="is not a Diffusers model") as raised:
        read_facts(tmp_path)
    assert "\n" not in str(raised.value)


def test_pickled_weights_are_not_loaded(tmp_path: Path) -> None:
    folder = model(tmp_path)
    (folder / "unet" / "w.safetensors").rename(folder / "unet" / "w.bin")
    with pytest.raises(SetupError, match="no safetensors weights"):
        read_facts(folder)


def test_a_variant_is_taken_where_there_are_no_plain_weights(tmp_path: Path) -> None:
    folder = model(tmp_path, **{"unet/w.fp16.safetensors": ""})
    assert read_facts(folder).variant is None
    (folder / "unet" / "w.safetensors").unlink()
    assert read_facts(folder).variant == "fp16"


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("model.safetensors", None),
        ("unet/model.fp16.safetensors", "fp16"),
        ("model-00001-of-00002.safetensors", None),
        ("diffusion_pytorch_model.fp16-00001-of-00002.safetensors", "fp16"),
    ],
)
def test_the_variant_is_read_off_the_name(name: str, variant: str | None) -> None:
    assert variant_of(name) == variant
