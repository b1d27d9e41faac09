"""What torch finds on a machine, with its backends as other machines have them."""

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from node.inference import probe
from node.inference.device import ORDER, choose_device
from node.inference.probe import TorchProbe, memory, release, synchronize


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The device modules of torch, by device type; a test adds to them."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(probe, "_backend", found.get)
    return found


def test_this_machine_can_be_asked_for_every_kind() -> None:
    found = TorchProbe()
    assert all(found.count(kind) >= 0 for kind in ORDER)
    assert found.name("cpu", 0)
    assert found.has_bfloat16("cpu", 0) in (True, False)
    assert choose_device("cpu", "auto", found).device == "cpu"


def test_a_kind_that_torch_does_not_know_has_no_devices() -> None:
    assert TorchProbe().count("abacus") == 0


def test_devices_that_are_not_available_do_not_count(backends: dict[str, Any]) -> None:
    for available, count in ((True, 3), (False, 0)):
        backends["xpu"] = SimpleNamespace(
            is_available=lambda answer=available: answer, device_count=lambda: 3
        )
        assert TorchProbe().count("xpu") == count


@pytest.mark.parametrize("available", [True, False])
def test_an_apple_gpu_counts_once(monkeypatch: pytest.MonkeyPatch, available: bool) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: available)
    assert TorchProbe().count("mps") == int(available)


@pytest.mark.parametrize(
    ("capability", "hip", "native"),
    [((7, 5), None, False), ((8, 0), None, True), ((9, 0), None, True), ((0, 0), "6.2", True)],
)
def test_bfloat16_is_native_from_ampere_on_and_with_rocm(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], hip: str | None, native: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert TorchProbe().has_bfloat16("cuda", 0) is native
    assert TorchProbe().is_rocm() is (hip is not None)


def test_bfloat16_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.xpu, "is_bf16_supported", lambda: True, raising=False)
    assert TorchProbe().has_bfloat16("xpu", 0)
    assert TorchProbe().has_bfloat16("hpu", 0)
    assert not TorchProbe().has_bfloat16("mps", 0)


@pytest.mark.parametrize(
    ("check", "flags", "native"),
    [
        ("_is_avx512_bf16_supported", [], True),
        ("_is_amx_tile_supported", [], True),
        (None, ["asimd", "bf16"], True),
        (None, ["avx2"], False),
    ],
)
def test_a_cpu_has_bfloat16_by_its_instructions(
    monkeypatch: pytest.MonkeyPatch, check: str | None, flags: list[str], native: bool
) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda yes=name == check: yes, raising=False)
    monkeypatch.setattr(probe, "_cpu_flags", lambda: flags)
    assert TorchProbe().has_bfloat16("cpu", 0) is native


def test_gaudi_registers_itself_when_its_bridge_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hpu = SimpleNamespace(is_available=lambda: True, device_count=lambda: 8)

    def register(name: str) -> None:
        assert name == "habana_frameworks.torch"
        monkeypatch.setattr(torch, "hpu", hpu, raising=False)

    monkeypatch.delattr(torch, "hpu", raising=False)
    monkeypatch.setattr(probe, "_gaudi_is_installed", lambda: True)
    monkeypatch.setattr(importlib, "import_module", register)
    assert TorchProbe().count("hpu") == 8
    assert TorchProbe().name("hpu", 0) == "hpu"


def test_memory_of_a_cpu_is_that_of_the_machine() -> None:
    total, free = memory("cpu", 0)
    assert total is not None
    assert free is not None
    assert 0 < free <= total


def test_memory_of_a_gpu_is_that_of_its_own_device(backends: dict[str, Any]) -> None:
    backends["cuda"] = SimpleNamespace(mem_get_info=lambda index: (10 + index, 100))
    assert memory("cuda", 1) == (100, 11)


def test_memory_that_torch_cannot_tell_is_not_known(backends: dict[str, Any]) -> None:
    backends["hpu"] = SimpleNamespace()
    assert memory("hpu", 0) == (None, None)


def test_memory_is_released_and_devices_waited_for_where_that_exists(
    backends: dict[str, Any],
) -> None:
    called: list[str] = []
    backends["cuda"] = SimpleNamespace(
        empty_cache=lambda: called.append("empty_cache"),
        synchronize=lambda: called.append("synchronize"),
    )
    for kind in ("cuda", "cpu"):
        release(kind)
        synchronize(kind)
    assert called == ["empty_cache", "synchronize"]
