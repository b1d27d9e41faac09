"""Which device and dtype to compute on: a pure choice over what a probe found."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

DTYPES: Final = ("float32", "bfloat16", "float16")
ORDER: Final = ("cuda", "xpu", "hpu", "mps")
"""What `auto` prefers, best first; the CPU comes last."""

_NAMES: Final = {
    "cuda": "an NVIDIA GPU (CUDA)",
    "xpu": "an Intel GPU (XPU)",
    "hpu": "an Intel Gaudi accelerator (HPU)",
    "mps": "an Apple GPU (MPS)",
    "cpu": "the CPU",
}


class Probe(Protocol):
    """What the machine and the torch build offer. `kind` is a torch device type."""

    def count(self, kind: str) -> int:
        """Count usable devices; 0 also when this torch build does not know the kind."""

    def name(self, kind: str, index: int) -> str:
        """Name of a device, for people."""

    def has_bfloat16(self, kind: str, index: int) -> bool:
        """Whether a device computes in bfloat16 natively, not by emulation."""

    def is_rocm(self) -> bool:
        """Whether `cuda` devices of this torch build are AMD's (`torch.version.hip`)."""


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """A device with the dtype of its weights; `warning` says what was asked for in vain."""

    device: str
    dtype: str
    reason: str
    warning: str | None = None

    @property
    def kind(self) -> str:
        """The torch device type, without an index."""
        return self.device.partition(":")[0]

    def described(self) -> str:
        """The reason, with the warning where there is one."""
        return f"WARNING: {self.warning}; {self.reason}" if self.warning else self.reason


def choose_device(setting: str, dtype_setting: str, probe: Probe) -> DeviceChoice:
    """Choose what to compute on. What is not available falls back, with a warning, to `auto`."""
    kind, _, number = setting.strip().lower().partition(":")
    warning = None if kind == "auto" else _unavailable(setting, kind, number, probe)
    if kind == "auto" or warning:
        kind, number = next((k for k in ORDER if probe.count(k)), "cpu"), ""
        why = "the best device found" if kind != "cpu" else "no accelerator was found"
    else:
        why = f"NODE_DEVICE={setting}"
    index = int(number or 0)
    dtype, dtype_why, dtype_warning = _choose_dtype(dtype_setting, kind, index, probe)
    return DeviceChoice(
        device=f"{kind}:{number}" if number else kind,
        dtype=dtype,
        reason=f"{_described(kind, index, probe)}: {why}; {dtype}: {dtype_why}",
        warning="; ".join(filter(None, [warning, dtype_warning])) or None,
    )


def _unavailable(setting: str, kind: str, number: str, probe: Probe) -> str | None:
    if kind not in _NAMES or (number and not (number.isascii() and number.isdigit())):
        return f"NODE_DEVICE={setting} is not one of auto, cuda, cuda:1, xpu, hpu, mps, cpu"
    count = 1 if kind == "cpu" else probe.count(kind)
    if count == 0:
        return f"NODE_DEVICE={setting} asks for {_NAMES[kind]}, and this process can use none"
    if int(number or 0) >= count:
        last = f"{kind}:{count - 1}"
        return f"NODE_DEVICE={setting} asks for more devices than there are: the last is {last}"
    return None


def _described(kind: str, index: int, probe: Probe) -> str:
    if kind == "cuda" and probe.is_rocm():
        return f"{probe.name(kind, index)}, an AMD GPU (ROCm)"
    return f"{probe.name(kind, index)}, {_NAMES[kind]}"


_Dtype = tuple[str, str, str | None]


def _choose_dtype(setting: str, kind: str, index: int, probe: Probe) -> _Dtype:
    """Return the dtype, why, and a warning."""
    if setting in DTYPES:
        slow = (kind == "cpu" and setting == "float16") or (
            setting == "bfloat16" and not probe.has_bfloat16(kind, index)
        )
        warning = f"NODE_DTYPE={setting} is emulated and slow on {_NAMES[kind]}" if slow else None
        return setting, f"NODE_DTYPE={setting}", warning
    dtype, why = _AUTO_DTYPE[kind](probe.has_bfloat16(kind, index))
    wrong = f"NODE_DTYPE={setting} is not one of auto, {', '.join(DTYPES)}"
    return dtype, why, None if setting == "auto" else wrong


def _gpu_dtype(bfloat16: bool) -> tuple[str, str]:
    # bfloat16 has the range of float32: attention and VAE do not overflow as in float16.
    return ("bfloat16", "native here") if bfloat16 else ("float16", "bfloat16 is not native here")


def _cpu_dtype(bfloat16: bool) -> tuple[str, str]:
    # Measured on AVX512-BF16: 2.6 times float32. Without the instructions it is slower than it.
    return ("bfloat16", "native here") if bfloat16 else ("float32", "bfloat16 is not native here")


def _gaudi_dtype(bfloat16: bool) -> tuple[str, str]:
    return "bfloat16", "what Gaudi is made for"


def _apple_dtype(bfloat16: bool) -> tuple[str, str]:
    # bfloat16 is emulated before M2 and slower than float16 after; Diffusers tests MPS in float16.
    return "float16", "the fastest on Apple GPUs"


_AUTO_DTYPE: Final[dict[str, Callable[[bool], tuple[str, str]]]] = {
    "cuda": _gpu_dtype,
    "xpu": _gpu_dtype,
    "hpu": _gaudi_dtype,
    "mps": _apple_dtype,
    "cpu": _cpu_dtype,
}
