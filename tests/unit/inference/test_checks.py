"""What `doctor` says of the inference side of a machine."""

from pathlib import Path
from typing import Any

import pytest

from node.inference import checks
from node.inference.checks import Finding, inference_findings
from node.settings import Settings

GIB = 1024**3


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, int | None]:
    """The memory of the device; a test changes it."""
    figures: dict[str, int | None] = {"total": 16 * GIB, "free": 8 * GIB}
    read = lambda kind, index: (figures["total"], figures["free"])  # noqa: E731
    monkeypatch.setattr(checks, "memory", read)
    return figures


@pytest.fixture
def findings(memory: dict[str, int | None], tmp_path: Path) -> Any:
    """Examine with a few settings, a CPU and an empty cache; findings by name."""

    def examine(**given: Any) -> dict[str, Finding]:
        values = {"model": str(tmp_path), "device": "cpu", "dtype": "float32"}
        settings = Settings(**{**values, "cache_dir": tmp_path / "cache", **given})
        return {each.name: each for each in inference_findings(settings)}

    return examine


def test_a_machine_without_trouble_has_five_good_lines(findings: Any) -> None:
    found = findings()
    assert list(found) == ["torch", "device", "memory", "model", "token"]
    assert {each.verdict for each in found.values()} == {"ok"}
    assert all("\n" not in each.finding for each in found.values())
    assert "torch " in found["torch"].finding
    assert "diffusers " in found["torch"].finding
    assert found["device"].finding.startswith("cpu, float32 (")
    assert found["memory"].finding == "8.0 of 16.0 GiB free on cpu"
    assert "is on this machine" in found["model"].finding


def test_a_device_asked_for_in_vain_is_a_warning_with_a_remedy(findings: Any) -> None:
    found = findings(device="hpu")["device"]
    assert found.verdict == "warn"
    assert "NODE_DEVICE=hpu" in found.finding
    assert "NODE_DEVICE" in found.remedy


def test_little_memory_is_a_warning(findings: Any, memory: dict[str, int | None]) -> None:
    memory["free"] = GIB
    found = findings()["memory"]
    assert found.verdict == "warn"
    assert found.remedy


def test_memory_that_torch_cannot_tell_is_no_trouble(
    findings: Any, memory: dict[str, int | None]
) -> None:
    memory.update(total=None, free=None)
    assert findings()["memory"] == Finding("memory", "ok", "torch cannot tell for cpu")


@pytest.mark.parametrize(("offline", "verdict"), [(False, "warn"), (True, "fail")])
def test_a_model_that_is_not_here_says_how_to_fetch_it(
    findings: Any, offline: bool, verdict: str
) -> None:
    found = findings(model="owner/name@v1", offline=offline)["model"]
    assert found.verdict == verdict
    assert "owner/name" in found.finding
    assert found.remedy.startswith("text2image-node models fetch owner/name")


def test_a_model_in_the_cache_is_here(findings: Any, tmp_path: Path) -> None:
    (tmp_path / "cache" / "models--owner--name" / "snapshots" / ("a" * 40)).mkdir(parents=True)
    assert findings(model="owner/name")["model"].verdict == "ok"


def test_a_wrong_model_is_a_warning(findings: Any, tmp_path: Path) -> None:
    found = findings(model=str(tmp_path / "missing"))["model"]
    assert (found.verdict, found.remedy) == ("warn", "set NODE_MODEL")


def test_without_a_model_there_is_the_shipped_one(findings: Any) -> None:
    assert findings(model=None)["model"].finding == "emoji-scenes is on this machine"


def test_the_token_is_told_of_and_never_shown(findings: Any) -> None:
    found = findings(hf_token="hf_secret")
    assert found["token"].finding == "HF_TOKEN is set"
    assert not [each for each in found.values() if "hf_secret" in str(each)]
