"""Which families make images from pictures, and how many steps they run then."""

from types import SimpleNamespace
from typing import Any

import pytest

from node.errors import SetupError
from node.inference.traits import Kept

# torch's own, when Diffusers imports its pipelines; the import waits for the filter.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")


@pytest.mark.parametrize(
    ("family", "linked"),
    [
        ("StableDiffusionPipeline", True),
        ("StableDiffusionXLPipeline", True),
        ("StableDiffusion3Pipeline", True),
        ("FluxPipeline", True),
        ("QwenImagePipeline", True),
        ("KandinskyV22Pipeline", True),
        ("SanaPipeline", False),
        ("PixArtSigmaPipeline", False),
        ("NoSuchPipeline", False),
    ],
)
def test_diffusers_says_which_families_make_images_from_pictures(family: str, linked: bool) -> None:
    from node.inference.derived import has_image_pipeline

    assert has_image_pipeline(family) is linked


def test_a_pipeline_without_a_counterpart_is_one_clear_line() -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    from node.inference.derived import derive

    unet = UNet2DModel(
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    with pytest.raises(SetupError, match="DDPMPipeline gives no image-to-image pipeline") as raised:
        derive(DDPMPipeline(unet, DDPMScheduler()))
    assert "\n" not in str(raised.value)


def pipeline_classes() -> list[Any]:
    """Every class that Diffusers links, and those that combined ones run."""
    from diffusers.pipelines import auto_pipeline

    combined = auto_pipeline._AUTO_IMAGE2IMAGE_DECODER_PIPELINES_MAPPING
    return [
        combined.get(name, each)
        for name, each in auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING.items()
    ]


def test_every_family_says_what_a_strength_does_to_its_steps() -> None:
    from node.inference.derived import kept_by

    rules = {each.__name__: kept_by(each) for each in pipeline_classes()}
    assert rules["StableDiffusionImg2ImgPipeline"] is Kept.ROUNDED_DOWN
    assert rules["StableDiffusionXLImg2ImgPipeline"] is Kept.ROUNDED_DOWN
    assert rules["KandinskyV22Img2ImgPipeline"] is Kept.ROUNDED_DOWN
    assert rules["IFImg2ImgPipeline"] is Kept.ROUNDED_DOWN
    assert rules["FluxImg2ImgPipeline"] is Kept.ROUNDED_UP
    assert rules["StableDiffusion3Img2ImgPipeline"] is Kept.ROUNDED_UP
    assert rules["LatentConsistencyModelImg2ImgPipeline"] is Kept.ALL
    assert rules["Flux2Pipeline"] is Kept.ALL
    assert len(rules) > 20


def test_a_combined_pipeline_asks_the_one_that_it_runs() -> None:
    from diffusers import KandinskyV22Img2ImgPipeline

    from node.inference.derived import running_class

    decoder = KandinskyV22Img2ImgPipeline.__new__(KandinskyV22Img2ImgPipeline)
    assert running_class(SimpleNamespace(decoder_pipe=decoder)) is KandinskyV22Img2ImgPipeline
    assert running_class(SimpleNamespace()) is SimpleNamespace
