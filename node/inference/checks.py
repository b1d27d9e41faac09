"""What `doctor` wants to know about the inference side of this machine."""

from typing import NamedTuple

import diffusers
import torch

from node.errors import SetupError
from node.inference.device import choose_device
from node.inference.hub import Hub, cached_models
from node.inference.offers import ModelSpec, parse_models
from node.inference.probe import TorchProbe, memory
from node.settings import Settings

LOW_MEMORY_BYTES = 4 * 1024**3


class Finding(NamedTuple):
    """One line of the report; `verdict` is ok, warn or fail."""

    name: str
    verdict: str
    finding: str
    remedy: str = ""


def inference_findings(settings: Settings) -> list[Finding]:
    """Examine torch, device, memory, models and token. Touches no network."""
    choice = choose_device(settings.device, settings.dtype, TorchProbe())
    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
    device = f"{choice.device}, {choice.dtype} ({choice.reason})"
    remedy = "change NODE_DEVICE or NODE_DTYPE, or install the torch build for this device"
    return [
        Finding("torch", "ok", versions),
        Finding("device", "warn", f"{device}; {choice.warning}", remedy)
        if choice.warning
        else Finding("device", "ok", device),
        _memory(choice.kind, choice.device),
        *_models(settings),
        _token(settings),
    ]


def _memory(kind: str, device: str) -> Finding:
    total, free = memory(kind, int(device.partition(":")[2] or 0))
    if total is None or free is None:
        return Finding("memory", "ok", f"torch cannot tell for {kind}")
    finding = f"{free / 1024**3:.1f} of {total / 1024**3:.1f} GiB free on {device}"
    if free < LOW_MEMORY_BYTES:
        return Finding("memory", "warn", finding, "stop other programs, or serve a smaller model")
    return Finding("memory", "ok", finding)


def _models(settings: Settings) -> list[Finding]:
    try:
        specs = parse_models(settings.model, settings.models)
    except SetupError as error:
        return [Finding("model", "warn", str(error), "set NODE_MODEL")]
    hub = Hub(settings.hf_token, settings.cache_dir, settings.offline)
    cached = {model.id for model in cached_models(hub)}
    return [_model(spec, cached, settings.offline) for spec in specs]


def _model(spec: ModelSpec, cached: set[str], offline: bool) -> Finding:
    if spec.is_local or spec.source in cached:
        return Finding("model", "ok", f"{spec.name} is on this machine")
    finding = f"{spec.name} is not on this machine yet"
    verdict = "fail" if offline else "warn"
    return Finding("model", verdict, finding, f"text2image-node models fetch {spec.source}")


def _token(settings: Settings) -> Finding:
    if settings.hf_token:
        return Finding("token", "ok", "HF_TOKEN is set")
    return Finding("token", "ok", "HF_TOKEN is not set; only gated models need it")
