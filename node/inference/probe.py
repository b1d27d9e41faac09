"""What torch finds on this machine. Imported by the inference thread alone."""

import importlib
import importlib.util
import platform
import random
from pathlib import Path
from typing import Any, Final

import torch

_GAUDI_BRIDGE: Final = "habana_frameworks.torch"


class TorchProbe:
    """Implements `device.Probe` with the installed torch."""

    def count(self, kind: str) -> int:
        """Count usable devices of a torch device type."""
        if kind == "mps":
            return int(torch.backends.mps.is_available())
        backend = _backend(kind)
        return backend.device_count() if backend is not None and backend.is_available() else 0

    def name(self, kind: str, index: int) -> str:
        """Name a device."""
        if kind in ("cpu", "mps"):
            return _processor_name()
        backend = _backend(kind)
        name = getattr(backend, "get_device_name", None)
        return str(name(index)) if name else kind

    def has_bfloat16(self, kind: str, index: int) -> bool:
        """Say whether a device has bfloat16 arithmetic of its own."""
        if kind == "cpu":
            return _cpu_has_bfloat16()
        if kind == "cuda":
            # From Ampere (8.0) on; Turing and older emulate it. AMD: all that ROCm supports.
            return bool(torch.version.hip) or torch.cuda.get_device_capability(index) >= (8, 0)
        if kind == "xpu":
            return bool(torch.xpu.is_bf16_supported())
        return kind == "hpu"

    def is_rocm(self) -> bool:
        """Say whether this torch is built for AMD."""
        return torch.version.hip is not None


def memory(kind: str, index: int) -> tuple[int | None, int | None]:
    """Read total and free bytes of a device's memory; None where torch cannot tell."""
    if kind in ("cpu", "mps"):
        import psutil

        figures = psutil.virtual_memory()
        return int(figures.total), int(figures.available)
    read = getattr(_backend(kind), "mem_get_info", None)
    if read is None:
        return None, None
    free, total = read(index)
    return int(total), int(free)


def release(kind: str) -> None:
    """Give cached memory of the device back to the driver."""
    empty_cache = getattr(_backend(kind), "empty_cache", None)
    if empty_cache is not None:
        empty_cache()


def builds_new_code() -> bool:
    """Say whether oneDNN can still build code, for a shape that this process has not seen.

    Where a thread once had no memory for code, it never can again, however much there is later:
    Xbyak, the assembler, keeps the first error of a thread. What was built before still runs.
    """
    channels = random.randrange(1024, 65536)
    image, weight = torch.zeros(1, channels, 3, 3), torch.zeros(8, channels, 1, 1)
    try:
        torch.mkldnn_convolution(image, weight, None, (0, 0), (1, 1), (1, 1), 1)
    except RuntimeError:
        return False
    return True


def synchronize(kind: str) -> None:
    """Wait until the device did all that was asked of it."""
    if kind != "cpu":
        _backend(kind).synchronize()


def _backend(kind: str) -> Any:
    if kind == "hpu" and not hasattr(torch, "hpu") and _gaudi_is_installed():
        # The bridge registers the device with torch.
        importlib.import_module(_GAUDI_BRIDGE)
    return getattr(torch, kind, None)


def _gaudi_is_installed() -> bool:
    try:
        return importlib.util.find_spec(_GAUDI_BRIDGE) is not None
    except ModuleNotFoundError:
        return False


def _cpu_has_bfloat16() -> bool:
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    if any(getattr(torch.cpu, check, lambda: False)() for check in checks):
        return True
    return "bf16" in _cpu_flags()  # Arm


def _cpu_flags() -> list[str]:
    return _cpuinfo("flags", "Features").split()


def _processor_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(*names: str) -> str:
    """Read a field of the first processor in Linux' list; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() in names), "")
