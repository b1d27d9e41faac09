"""LoRAs around one job: into the pipeline before it, out of it after."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contracts.text2image import LoRA
from node.errors import InvalidRequest


@contextmanager
def applied(pipeline: Any, loras: Sequence[LoRA], files: Mapping[str, Path]) -> Iterator[None]:
    """Add the LoRAs with their scales, and take them out again whatever happens.

    Raises InvalidRequest where one does not fit the model.
    """
    if not loras:
        yield
        return
    # Adapters are named by position: PEFT keeps them as module names, which may have no dots.
    adapters = {f"lora_{index}": lora for index, lora in enumerate(loras)}
    try:
        for adapter, lora in adapters.items():
            _load(pipeline, adapter, lora.name, files[lora.name])
        pipeline.set_adapters(list(adapters), [lora.scale for lora in loras])
        yield
    finally:
        pipeline.unload_lora_weights()


def _load(pipeline: Any, adapter: str, name: str, file: Path) -> None:
    try:
        pipeline.load_lora_weights(
            str(file.parent),
            weight_name=file.name,
            adapter_name=adapter,
            use_safetensors=True,
            local_files_only=True,
        )
    except (ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidRequest(f"loras: {name!r} does not fit this model: {reason}") from error
    # Diffusers only logs it when no weight of the file has a place in the model.
    if not any(adapter in names for names in pipeline.get_list_adapters().values()):
        raise InvalidRequest(f"loras: {name!r} does not fit this model: it has none of its layers")
