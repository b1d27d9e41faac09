"""Which kind of captioner a checkpoint is. Called by the inference thread alone."""

from pathlib import Path

from transformers import AutoConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from node.errors import SetupError
from node.inference.device import DeviceChoice
from orchestrator_example.services.caption_generation import GenerativeModel
from orchestrator_example.services.caption_heads import HeadModel, heads_of
from orchestrator_example.services.caption_seeing import CaptionModel
from orchestrator_example.services.checkpoint_loading import is_checkpoint


def load_captioner(name: str, folder: Path, choice: DeviceChoice) -> CaptionModel:
    """Load a checkpoint by what its config says it is. Raises SetupError."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if is_checkpoint(config, MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES) and heads_of(
        config.id2label
    ):
        return HeadModel(folder, choice)
    if is_checkpoint(config, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES):
        return GenerativeModel(folder, choice)
    raise SetupError(
        f"{name} captions no pictures: it is a "
        f"{', '.join(config.architectures or [config.model_type])}; the captioner takes image-to-"
        "text and vision-language models of transformers, and classifiers with labels head:class"
    )
