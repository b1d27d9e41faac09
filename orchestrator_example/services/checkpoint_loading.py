"""How a transformers checkpoint comes to this machine and onto its device.

Called by the inference thread; importing this module does not import torch.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from node.component import DeviceInfo, ReportLoad
from node.errors import SetupError
from node.inference.device import DeviceChoice, choose_device
from node.inference.offers import ModelSpec
from node.inference.thread import ONE_LOAD_AT_A_TIME
from node.settings import Settings

M = TypeVar("M")


def fetch(spec: ModelSpec, settings: Settings, report: ReportLoad) -> Path:
    """Bring the checkpoint to this machine and return its folder. Raises SetupError."""
    from node.inference.hub import TRANSFORMERS_FILES, Hub, fetch_model

    hub = Hub(settings.hf_token, settings.cache_dir, settings.offline)
    return fetch_model(spec, hub, report, TRANSFORMERS_FILES)


def choose(settings: Settings) -> tuple[DeviceChoice, DeviceInfo]:
    """Import torch and choose the device; called by the inference thread."""
    from node.inference.quiet import quiet_libraries

    quiet_libraries()
    from node.inference.probe import TorchProbe, memory

    choice = choose_device(settings.device, settings.dtype, TorchProbe())
    if settings.model is None and settings.dtype == "auto":
        # A few megabytes: halves would save nothing, and cost answers.
        why = f"{choice.reason.rpartition('; ')[0]}; float32: the shipped model is small"
        choice = replace(choice, dtype="float32", reason=why)
    total, free = memory(choice.kind, int(choice.device.partition(":")[2] or 0))
    return choice, DeviceInfo(choice.device, choice.dtype, choice.described(), total, free)


def built(
    build: Callable[[str, Path, DeviceChoice], M], name: str, folder: Path, choice: DeviceChoice
) -> M:
    """Load a checkpoint. Raises SetupError."""
    try:
        with ONE_LOAD_AT_A_TIME:
            return build(name, folder, choice)
    except SetupError:
        raise
    except Exception as error:
        # transformers raises whatever it meets in the files: a person must look at them.
        reason = " ".join(str(error).split())[:300]
        raise SetupError(f"{name} cannot be loaded from {folder}: {reason}") from error


def weights(classes: Any, folder: Path, choice: DeviceChoice) -> Any:
    """Load a model of one of transformers' Auto classes onto its device; pickles are refused."""
    model = classes.from_pretrained(
        folder, dtype=choice.dtype, local_files_only=True, use_safetensors=True
    )
    return model.to(choice.device).eval()


def is_checkpoint(config: Any, classes: Any) -> bool:
    """Say whether a checkpoint was saved as one of the classes of a transformers mapping."""
    names = {
        name
        for value in classes.values()
        for name in ((value,) if isinstance(value, str) else value)
    }
    return any(name in names for name in config.architectures or [])
