"""Tiny checkpoints with random weights, built from configs: offline, in seconds, deterministic.

    python -m tests.checkpoints FAMILY FOLDER [SEED]

Each is an ordinary Diffusers folder (safetensors, tokenizers included) that makes noise.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel

_CLIP_VOCABULARY = 1024
_T5_VOCABULARY = 256
_MERGES = ["t h", "th e</w>", "a n", "an </w>", "i n", "r e", "e n</w>", "r o", "a s", "t ro"]


def clip_tokenizer() -> transformers.CLIPTokenizer:
    """Build a byte-level tokenizer that reads any text, in 77 tokens as CLIP's does."""
    letters = sorted(ByteLevel.alphabet())
    merges = [tuple(merge.split(" ")) for merge in _MERGES if "</w>" not in merge.split(" ")]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(m) for m in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def t5_tokenizer() -> transformers.T5TokenizerFast:
    """Build a Unigram tokenizer of single characters."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    letters = [(chr(code), -3.0) for code in range(33, 127)]
    return transformers.T5TokenizerFast(
        vocab=special + letters, extra_ids=0, model_max_length=512, additional_special_tokens=[]
    )


def clip_encoder(
    hidden_size: int, projection: int | None = None
) -> transformers.CLIPTextModel | transformers.CLIPTextModelWithProjection:
    """Build a CLIP text encoder; with `projection`, one that has a projection of this size."""
    tokenizer = clip_tokenizer()
    config = transformers.CLIPTextConfig(
        vocab_size=_CLIP_VOCABULARY,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=projection or hidden_size,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    if projection is None:
        return transformers.CLIPTextModel(config).eval()
    return transformers.CLIPTextModelWithProjection(config).eval()


def t5_encoder(hidden_size: int) -> transformers.T5EncoderModel:
    """Build a T5 text encoder."""
    config = transformers.T5Config(
        vocab_size=_T5_VOCABULARY,
        d_model=hidden_size,
        d_kv=hidden_size // 4,
        d_ff=2 * hidden_size,
        num_layers=2,
        num_heads=4,
    )
    return transformers.T5EncoderModel(config).eval()


def vae(latent_channels: int = 4, **more: Any) -> diffusers.AutoencoderKL:
    """Build an autoencoder with the usual factor of 8."""
    return diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[16, 16, 32, 32],
        norm_num_groups=8,
        layers_per_block=1,
        latent_channels=latent_channels,
        **more,
    ).eval()


def unet(cross_attention_dim: int, **more: Any) -> diffusers.UNet2DConditionModel:
    """Build a UNet of two levels for images of 128 x 128 pixels."""
    return diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross_attention_dim,
        norm_num_groups=8,
        **more,
    ).eval()


def stable_diffusion() -> diffusers.StableDiffusionPipeline:
    """Stable Diffusion 1.x: 128 x 128 pixels, the noise schedule of the original."""
    return diffusers.StableDiffusionPipeline(
        vae=vae(scaling_factor=0.18215),
        text_encoder=clip_encoder(32),
        tokenizer=clip_tokenizer(),
        unet=unet(32, attention_head_dim=8),
        scheduler=_pndm(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> diffusers.StableDiffusionXLPipeline:
    """SDXL: two text encoders, size conditioning."""
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(scaling_factor=0.13025),
        text_encoder=clip_encoder(32),
        text_encoder_2=clip_encoder(32, projection=32),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet(
            64,
            attention_head_dim=(4, 8),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 1),
            projection_class_embeddings_input_dim=6 * 8 + 32,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
    )


def stable_diffusion_3() -> diffusers.StableDiffusion3Pipeline:
    """SD3: a diffusion transformer, three text encoders, flow matching."""
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=64,
            caption_projection_dim=32,
            pooled_projection_dim=64,
            out_channels=16,
            pos_embed_max_size=32,
        ).eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False),
        text_encoder=clip_encoder(32, projection=32),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_encoder(32, projection=32),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5_encoder(64),
        tokenizer_3=t5_tokenizer(),
    )


def flux() -> diffusers.FluxPipeline:
    """Flux: packed latents, guidance distilled into the transformer."""
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15
        ),
        vae=vae(16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False),
        text_encoder=clip_encoder(32),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5_encoder(64),
        tokenizer_2=t5_tokenizer(),
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=64,
            pooled_projection_dim=32,
            guidance_embeds=True,
            axes_dims_rope=(4, 6, 6),
        ).eval(),
    )


def _pndm() -> diffusers.PNDMScheduler:
    return diffusers.PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
        set_alpha_to_one=False,
    )


FAMILIES: dict[str, Callable[[], diffusers.DiffusionPipeline]] = {
    "sd": stable_diffusion,
    "sdxl": stable_diffusion_xl,
    "sd3": stable_diffusion_3,
    "flux": flux,
}

# Flux pipelines take 1024 pixels for native whatever the transformer; noise needs no 50 steps.
GENERATION = {"width": 128, "height": 128, "num_inference_steps": 20}


def build(family: str, folder: Path, seed: int = 0) -> Path:
    """Build a checkpoint of `sd`, `sdxl`, `sd3` or `flux` in a folder."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pipeline = FAMILIES[family]()
    pipeline.save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").write_text(json.dumps(GENERATION, indent=2) + "\n")
    return folder


def build_lora(folder: Path, name: str, *, rank: int = 4, seed: int = 1) -> Path:
    """Build a LoRA file for the UNet's cross attention of the `sd` checkpoint."""
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, layer in stable_diffusion().unet.named_modules():
        if key.endswith(("attn2.to_q", "attn2.to_v")):
            down, up = (rank, layer.in_features), (layer.out_features, rank)
            weights[f"unet.{key}.lora_A.weight"] = torch.randn(down, generator=generator)
            weights[f"unet.{key}.lora_B.weight"] = torch.randn(up, generator=generator)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / f"{name}.safetensors", metadata={"format": "pt"})
    return folder / f"{name}.safetensors"


if __name__ == "__main__":
    build(sys.argv[1], Path(sys.argv[2]), *(int(seed) for seed in sys.argv[3:4]))
