"""Measures against a lack of memory change a pipeline, and change it back."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch

from node.inference.memory_measures import measures_of, taken
from node.inference.memory_plan import Measure, MemoryPlan
from tests.checkpoints import unet, vae

# Of torch and Diffusers among themselves: at import, and in schedulers with NumPy 2.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
]

TILING = MemoryPlan(frozenset({Measure.VAE_TILING}))
SLICING = MemoryPlan(frozenset({Measure.ATTENTION_SLICING}))
OFFLOADS = [Measure.MODEL_OFFLOAD, Measure.SEQUENTIAL_OFFLOAD]


def tiny() -> diffusers.AutoencoderTiny:
    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    ).eval()


def deep_compression() -> diffusers.AutoencoderDC:
    return diffusers.AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.4,
    ).eval()


def of_videos() -> diffusers.AutoencoderKLQwenImage:
    return diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False] * 3,
    ).eval()


AUTOENCODERS: dict[str, tuple[Callable[[], Any], int, tuple[int, ...]]] = {
    "AutoencoderKL": (vae, 8, (1, 4)),
    "AutoencoderTiny": (tiny, 8, (1, 4)),
    "AutoencoderDC": (deep_compression, 2, (1, 4)),
    "AutoencoderKLQwenImage": (of_videos, 8, (1, 4, 1)),
}


@pytest.fixture(params=AUTOENCODERS)
def decoding(request: pytest.FixtureRequest) -> tuple[Any, torch.Tensor]:
    """A pipeline with an autoencoder, and latents of 512 x 384 pixels for it."""
    make, factor, shape = AUTOENCODERS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        latents = torch.randn(*shape, 512 // factor, 384 // factor)
        return SimpleNamespace(vae=make(), vae_scale_factor=factor), latents


class Sides:
    """The sides of what a decoder was given."""

    def __init__(self, autoencoder: Any) -> None:
        self.seen: list[int] = []
        autoencoder.decoder.register_forward_pre_hook(self._note)

    def _note(self, _module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        self.seen.append(max(inputs[0].shape[-2:]))


def attributes(module: torch.nn.Module) -> dict[str, Any]:
    return {name: each for name, each in vars(module).items() if not name.startswith("_")}


def test_every_spelling_of_tiles_bounds_what_is_decoded_at_once(
    decoding: tuple[Any, torch.Tensor],
) -> None:
    pipeline, latents = decoding
    sides = Sides(pipeline.vae)
    with torch.no_grad(), taken(pipeline, TILING, "cpu", width=384, height=512):
        decoded = pipeline.vae.decode(latents).sample
    assert decoded.shape[-2:] == (512, 384)
    assert len(sides.seen) > 1
    assert max(sides.seen) * pipeline.vae_scale_factor == 256


def test_afterwards_an_autoencoder_decodes_as_before(decoding: tuple[Any, torch.Tensor]) -> None:
    pipeline, latents = decoding
    before = attributes(pipeline.vae)
    with torch.no_grad():
        expected = pipeline.vae.decode(latents).sample
        with (
            pytest.raises(ZeroDivisionError),
            taken(pipeline, TILING, "cpu", width=384, height=512),
        ):
            raise ZeroDivisionError
        sides = Sides(pipeline.vae)
        assert torch.equal(pipeline.vae.decode(latents).sample, expected)
    assert attributes(pipeline.vae) == before
    assert len(sides.seen) == 1


def test_an_autoencoder_that_was_tiled_before_stays_so() -> None:
    pipeline = SimpleNamespace(vae=vae(), vae_scale_factor=8)
    pipeline.vae.enable_tiling()
    with taken(pipeline, TILING, "cpu", width=512, height=512):
        pass
    assert pipeline.vae.use_tiling


def test_what_is_available_depends_on_pipeline_and_device(decoding: tuple[Any, Any]) -> None:
    pipeline, _ = decoding
    assert measures_of(pipeline, "cpu") == {Measure.VAE_TILING}
    assert measures_of(SimpleNamespace(vae=None), "cpu") == frozenset()
    assert measures_of(SimpleNamespace(movq=vae(), vae_scale_factor=8), "cpu") == frozenset()
    assert measures_of(SimpleNamespace(vae=vae()), "cpu") == frozenset()


def test_offload_is_for_devices_with_memory_of_their_own() -> None:
    ordered = SimpleNamespace(model_cpu_offload_seq="unet->vae")
    unordered = SimpleNamespace(model_cpu_offload_seq=None)
    combined = SimpleNamespace(model_cpu_offload_seq="unet", decoder_pipe=ordered)
    assert measures_of(ordered, "cuda") == set(OFFLOADS)
    assert measures_of(unordered, "xpu") == {Measure.SEQUENTIAL_OFFLOAD}
    for kind in ("cpu", "mps", "hpu"):
        assert measures_of(ordered, kind) == frozenset()
    assert measures_of(combined, "cuda") == frozenset()


def test_attention_is_sliced_only_where_torch_holds_all_of_it_at_once() -> None:
    sliceable = SimpleNamespace(unet=unet(32, attention_head_dim=8), model_cpu_offload_seq=None)
    transformer = SimpleNamespace(transformer=object(), model_cpu_offload_seq=None)
    assert Measure.ATTENTION_SLICING in measures_of(sliceable, "mps")
    assert Measure.ATTENTION_SLICING not in measures_of(sliceable, "cpu")
    assert Measure.ATTENTION_SLICING not in measures_of(sliceable, "cuda")
    assert Measure.ATTENTION_SLICING not in measures_of(transformer, "mps")


def test_slices_of_attention_give_nearly_the_same_and_leave_the_processors() -> None:
    model = unet(32, attention_head_dim=8)
    before = dict(model.attn_processors)
    inputs = (torch.randn(2, 4, 16, 16), 5, torch.randn(2, 77, 32))
    with torch.no_grad():
        expected = model(*inputs).sample
        with taken(SimpleNamespace(unet=model), SLICING, "cpu", width=128, height=128):
            sliced = {type(each).__name__ for each in model.attn_processors.values()}
            torch.testing.assert_close(model(*inputs).sample, expected)
        assert torch.equal(model(*inputs).sample, expected)
    assert sliced == {"SlicedAttnProcessor"}
    assert model.attn_processors == before
