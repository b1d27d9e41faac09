"""What is known of a model like Stable Diffusion."""

from contracts.discovery import ModelLimits
from node.inference.traits import Guidance, ModelTraits

LIMITS = ModelLimits(
    min_pixels=64, max_pixels=512, size_granularity=16, max_images=4, max_inference_steps=20
)
ARGUMENTS = frozenset(
    {
        "prompt",
        "negative_prompt",
        "width",
        "height",
        "num_inference_steps",
        "num_images_per_prompt",
        "guidance_scale",
        "callback_on_step_end",
        "generator",
        "output_type",
    }
)
TRAITS = ModelTraits(
    family="StableDiffusionPipeline",
    arguments=ARGUMENTS,
    native_width=128,
    native_height=96,
    granularity=16,
    num_inference_steps=10,
    guidance_scale=7.5,
    guidance=Guidance.CLASSIFIER_FREE,
    negative_prompt=True,
    scheduler="PNDMScheduler",
    schedulers=("DDIMScheduler", "PNDMScheduler"),
    previews=True,
    loras=True,
)
