"""Export the trained parts as an ordinary `StableDiffusionPipeline` folder, in float16.

Run `python -m training.export`; the shipped settings go into `generation_config.json` beside
`model_index.json`.
"""

import argparse
import json
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, SchedulerMixin, StableDiffusionPipeline

from training.autoencoder import load_autoencoder
from training.captions import known_words
from training.flat import bind
from training.loop import load_checkpoint
from training.places import RUNS, exit_without_font
from training.scenes import PICTURE_PIXELS
from training.text2image import TextToImage, build_noise_scheduler
from training.tokenizer import load_tokenizer

NUM_INFERENCE_STEPS = 16
GUIDANCE_SCALE = 2.5


def assemble(autoencoder: Path, text2image: Path) -> StableDiffusionPipeline:
    """Return the pipeline of the last checkpoints, with averaged weights, in float32."""
    state = load_checkpoint(text2image / "checkpoint.pt")
    if state is None:
        raise FileNotFoundError(f"no model in {text2image}: run training.text2image first")
    tokenizer = load_tokenizer(text2image / "tokenizer")
    model = TextToImage(tokenizer)
    bind(model, state["average"])
    return StableDiffusionPipeline(
        vae=load_autoencoder(autoencoder),
        text_encoder=model.text_encoder.eval(),
        tokenizer=tokenizer,
        unet=model.unet.eval(),
        scheduler=shipped_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def shipped_scheduler() -> SchedulerMixin:
    """Return the noise scheduler that the exported model samples with by default."""
    return DPMSolverMultistepScheduler.from_config(
        build_noise_scheduler().config,
        algorithm_type="dpmsolver++",
        solver_order=2,
        use_karras_sigmas=False,
        final_sigmas_type="zero",
        # Diffusers sets it in any case, with a warning; "trailing" spacing has no use for it.
        steps_offset=1,
    )


def export(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline in float16 safetensors, and `generation_config.json`."""
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    _load_text_encoder_as_float32(folder / "text_encoder" / "config.json")
    defaults = {
        "num_inference_steps": NUM_INFERENCE_STEPS,
        "guidance_scale": GUIDANCE_SCALE,
        "width": PICTURE_PIXELS,
        "height": PICTURE_PIXELS,
        "vocabulary": known_words(),
    }
    (folder / "generation_config.json").write_text(json.dumps(defaults, indent=2) + "\n")


def _load_text_encoder_as_float32(config: Path) -> None:
    """Let the text encoder load in float32 by default, as Diffusers loads the other parts.

    Transformers follows the stored dtype, Diffusers does not: without this, the two would not fit
    together unless the caller names a dtype.
    """
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"dtype": "float32"}, indent=2) + "\n")


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--autoencoder", type=Path, default=RUNS / "autoencoder")
    parser.add_argument("--text2image", type=Path, default=RUNS / "text2image")
    parser.add_argument("--folder", type=Path, default=RUNS / "export" / "text2image")
    options = parser.parse_args()
    exit_without_font()
    export(assemble(options.autoencoder, options.text2image), options.folder)


if __name__ == "__main__":
    main()
