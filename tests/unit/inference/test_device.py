"""Which device and dtype a node computes on, for every kind of machine."""

from dataclasses import dataclass, field

import pytest

from node.inference.device import DeviceChoice, choose_device


@dataclass(frozen=True, slots=True)
class Machine:
    """Implements Probe: so many devices of each kind, some with bfloat16."""

    counts: dict[str, int] = field(default_factory=dict)
    bfloat16: frozenset[str] = frozenset()
    rocm: bool = False

    def count(self, kind: str) -> int:
        return self.counts.get(kind, 0)

    def name(self, kind: str, index: int) -> str:
        return f"{kind} number {index}"

    def has_bfloat16(self, kind: str, index: int) -> bool:
        return kind in self.bfloat16

    def is_rocm(self) -> bool:
        return self.rocm


def machine(*kinds: str, bfloat16: str = "", rocm: bool = False, count: int = 1) -> Machine:
    return Machine(dict.fromkeys(kinds, count), frozenset(bfloat16.split()), rocm)


AUTOMATIC = {
    "CUDA": (machine("cuda", bfloat16="cuda"), "cuda", "bfloat16", "NVIDIA"),
    "CUDA without bfloat16": (machine("cuda"), "cuda", "float16", "NVIDIA"),
    "ROCm": (machine("cuda", bfloat16="cuda", rocm=True), "cuda", "bfloat16", "ROCm"),
    "XPU": (machine("xpu", bfloat16="xpu"), "xpu", "bfloat16", "Intel GPU"),
    "XPU without bfloat16": (machine("xpu"), "xpu", "float16", "Intel GPU"),
    "Gaudi": (machine("hpu"), "hpu", "bfloat16", "Gaudi"),
    "MPS": (machine("mps"), "mps", "float16", "Apple"),
    "CPU": (machine(), "cpu", "float32", "CPU"),
    "CPU with bfloat16": (machine(bfloat16="cpu"), "cpu", "bfloat16", "CPU"),
    "CUDA before the others": (machine("mps", "xpu", "cuda"), "cuda", "float16", "NVIDIA"),
}


@pytest.mark.parametrize(("found", "device", "dtype", "words"), AUTOMATIC.values(), ids=AUTOMATIC)
def test_auto_takes_the_best_device_and_a_dtype_that_it_is_fast_in(
    found: Machine, device: str, dtype: str, words: str
) -> None:
    choice = choose_device("auto", "auto", found)
    assert (choice.device, choice.dtype, choice.warning) == (device, dtype, None)
    assert words in choice.reason
    assert choice.described() == choice.reason


@pytest.mark.parametrize("kind", ["cuda", "xpu", "hpu", "mps", "cpu"])
def test_a_device_that_is_there_is_taken_when_named(kind: str) -> None:
    choice = choose_device(kind, "auto", machine("cuda", "xpu", "hpu", "mps"))
    assert (choice.device, choice.kind, choice.warning) == (kind, kind, None)
    assert f"NODE_DEVICE={kind}" in choice.reason


@pytest.mark.parametrize("setting", ["cuda:1", " CUDA:1 "])
def test_a_device_is_named_by_its_number(setting: str) -> None:
    choice = choose_device(setting, "auto", machine("cuda", bfloat16="cuda", count=2))
    assert (choice.device, choice.kind, choice.warning) == ("cuda:1", "cuda", None)
    assert "cuda number 1" in choice.reason


def test_a_number_past_the_last_device_falls_back_with_a_warning() -> None:
    choice = choose_device("cuda:2", "auto", machine("cuda", count=2))
    assert choice.device == "cuda"
    assert choice.warning is not None
    assert "cuda:2" in choice.warning
    assert "cuda:1" in choice.warning
    assert choice.described().startswith("WARNING: ")


@pytest.mark.parametrize("kind", ["cuda", "xpu", "hpu", "mps"])
def test_a_device_that_is_not_there_falls_back_with_a_warning(kind: str) -> None:
    choice = choose_device(kind, "auto", machine())
    assert (choice.device, choice.dtype) == ("cpu", "float32")
    assert choice.warning is not None
    assert f"NODE_DEVICE={kind}" in choice.warning


def test_what_is_not_there_falls_back_to_the_best_that_is() -> None:
    choice = choose_device("cuda", "auto", machine("xpu"))
    assert choice.device == "xpu"
    assert choice.warning is not None


@pytest.mark.parametrize("setting", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:²", "0"])
def test_a_setting_that_is_no_device_is_never_a_crash(setting: str) -> None:
    choice = choose_device(setting, "auto", machine("cuda", bfloat16="cuda"))
    assert choice.device == "cuda"
    assert (choice.warning is None) == (setting == "cuda:")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_dtype_is_taken_when_named(dtype: str) -> None:
    choice = choose_device("auto", dtype, machine("cuda", bfloat16="cuda"))
    assert (choice.dtype, choice.warning) == (dtype, None)
    assert f"NODE_DTYPE={dtype}" in choice.reason


@pytest.mark.parametrize(
    ("found", "dtype"),
    [(machine(), "float16"), (machine(), "bfloat16"), (machine("cuda"), "bfloat16")],
)
def test_a_dtype_that_is_emulated_is_taken_with_a_warning(found: Machine, dtype: str) -> None:
    choice = choose_device("auto", dtype, found)
    assert choice.dtype == dtype
    assert choice.warning is not None
    assert f"NODE_DTYPE={dtype}" in choice.warning


def test_an_unknown_dtype_falls_back_with_a_warning() -> None:
    choice = choose_device("auto", "fp8", machine("cuda", bfloat16="cuda"))
    assert choice.dtype == "bfloat16"
    assert choice.warning is not None
    assert "fp8" in choice.warning
    assert "float32" in choice.warning


def test_both_warnings_are_told() -> None:
    choice = choose_device("cuda", "fp8", machine())
    assert choice.warning is not None
    assert "NODE_DEVICE=cuda" in choice.warning
    assert "NODE_DTYPE=fp8" in choice.warning


def test_a_choice_without_a_warning_is_described_by_its_reason() -> None:
    assert DeviceChoice("cpu", "float32", "why").described() == "why"
    assert DeviceChoice("cpu", "float32", "why", "in vain").described() == "WARNING: in vain; why"
