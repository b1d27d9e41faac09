"""Failures of a model hub are one line that says what to do; progress is added up."""

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import errors

from contracts.discovery import LoadState
from node.errors import SetupError
from node.inference import hub as hub_module
from node.inference.hub import (
    MODEL_FILES,
    TRANSFORMERS_FILES,
    VARIANT_FILES,
    Hub,
    cached_models,
    explain,
    fetch_lora,
    fetch_model,
    files_of,
    unwanted_variants,
)
from node.inference.offers import LoraSpec, ModelSpec
from tests.fake_hub import FakeHub

TOKEN = "hf_secretSECRETsecret"
SPEC = ModelSpec("owner/name", "owner/name", "v9")
TOO_LONG_AGO = -1e9


def answered(status_code: int) -> Any:
    return SimpleNamespace(status_code=status_code, headers={}, request=None)


def http(kind: type[Exception], status_code: int) -> Exception:
    return kind(f"{status_code} Client Error\nwith\nmany lines", response=answered(status_code))


FAILURES: dict[str, tuple[Exception, list[str]]] = {
    "gated": (http(errors.GatedRepoError, 403), ["gated", "licence", "HF_TOKEN", "owner/name"]),
    "no such repository": (http(errors.RepositoryNotFoundError, 401), ["spelling", "owner/name"]),
    "no such revision": (http(errors.RevisionNotFoundError, 404), ["no revision 'v9'", "commits"]),
    "bad token": (http(errors.HfHubHTTPError, 401), ["HF_TOKEN", "valid"]),
    "server error": (http(errors.HfHubHTTPError, 503), ["cannot be reached", "503"]),
    "not in the cache": (errors.LocalEntryNotFoundError("not\nhere"), ["network"]),
    "no space": (OSError(errno.ENOSPC, "No space left on device"), ["space", "NODE_CACHE_DIR"]),
    "quota": (OSError(errno.EDQUOT, "Quota exceeded"), ["space", "NODE_CACHE_DIR"]),
    "may not write": (PermissionError(errno.EACCES, "no", "/c"), ["/c", "NODE_CACHE_DIR"]),
    "no connection": (ConnectionError("refused\nand more"), ["network", "HF_ENDPOINT"]),
    "HF_HUB_OFFLINE": (errors.OfflineModeIsEnabled("offline"), ["cannot be reached"]),
    "transport": (errors.HTTPError("timed out"), ["network", "timed out"]),
    "bad id": (errors.HFValidationError("bad"), ["not a hub id"]),
}


@pytest.fixture
def broken_hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """A hub that answers everything with an error."""

    def use(error: Exception) -> None:
        def fail(*_: Any, **__: Any) -> Any:
            raise error

        monkeypatch.setattr(hub_module, "snapshot_download", fail)
        monkeypatch.setattr(hub_module, "_ignored", lambda *_: ())

    return use


@pytest.mark.parametrize(("error", "words"), FAILURES.values(), ids=FAILURES)
def test_every_failure_is_one_line_that_says_what_to_do(
    broken_hub: Callable[[Exception], None], error: Exception, words: list[str]
) -> None:
    broken_hub(error)
    with pytest.raises(SetupError) as raised:
        fetch_model(SPEC, Hub(token=TOKEN), lambda state: None)
    line = str(raised.value)
    assert "\n" not in line
    assert all(word in line for word in words), line
    assert TOKEN not in line
    assert raised.value.__cause__ is error


def test_a_token_in_an_error_of_the_transport_is_not_shown(
    broken_hub: Callable[[Exception], None],
) -> None:
    broken_hub(errors.HTTPError(f"Illegal header value b'Bearer {TOKEN}\\n'"))
    with pytest.raises(SetupError, match="HF_TOKEN") as raised:
        fetch_model(SPEC, Hub(token=f"{TOKEN}\n"), lambda state: None)
    assert TOKEN not in str(raised.value)


def test_the_token_is_not_part_of_how_a_hub_is_printed() -> None:
    assert TOKEN not in repr(Hub(token=TOKEN))


def test_a_private_model_without_a_token_is_told_of_the_token() -> None:
    error = http(errors.RepositoryNotFoundError, 401)
    assert "HF_TOKEN" in explain(error, "a/b", None, Hub())
    assert "HF_TOKEN" not in explain(error, "a/b", None, Hub(token=TOKEN))


def test_offline_says_how_to_fetch_once() -> None:
    error = errors.LocalEntryNotFoundError("not here")
    line = explain(error, "a/b", None, Hub(offline=True))
    assert "NODE_OFFLINE" in line
    assert "text2image-node models fetch a/b" in line


def test_a_model_that_is_in_no_cache_is_refused_offline_without_network(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="models fetch owner/name"):
        fetch_model(SPEC, Hub(cache_dir=tmp_path, offline=True), lambda state: None)


def test_a_local_model_needs_no_hub(tmp_path: Path) -> None:
    states: list[LoadState] = []
    spec = ModelSpec("tiny", str(tmp_path))
    assert fetch_model(spec, Hub(), states.append) == tmp_path
    assert states == []


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """A hub with three files of 300 bytes; how it was called is written down."""
    calls: list[dict[str, Any]] = []

    def snapshot_download(**options: Any) -> str:
        calls.append(options)
        bar = options["tqdm_class"]
        received = bar(desc="a", total=0, initial=0, unit="B", unit_scale=True, disable=False)
        written = bar(desc="b", total=0, initial=0, unit="B", unit_scale=True)
        files = bar(desc="Fetching", total=3)
        for _ in range(3):
            for each in (received, written):
                each.total += 300
                each.refresh()
            received.update(200)
            written.update(300)
            files.update(1)
        for each in (received, written, files):
            each.close()
        return str(tmp_path)

    monkeypatch.setattr(hub_module, "snapshot_download", snapshot_download)
    monkeypatch.setattr(hub_module, "_ignored", lambda *_: ("*.fp16.*",))
    return calls


def test_progress_adds_up_files_and_bytes(
    downloads: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(hub_module, "REPORT_INTERVAL_SECONDS", TOO_LONG_AGO)
    states: list[LoadState] = []
    assert fetch_model(SPEC, Hub(), states.append) == tmp_path
    assert {(state.stage, state.model) for state in states} == {("downloading", "owner/name")}
    last = states[-1]
    assert (last.files_done, last.files_total) == (3, 3)
    assert (last.bytes_done, last.bytes_total) == (900, 900)
    done = [(state.files_done, state.bytes_done) for state in states]
    assert done == sorted(done)
    assert len(states) > 6
    assert capfd.readouterr() == ("", "")


def test_a_bar_that_is_iterated_over_counts_its_items(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def snapshot_download(**options: Any) -> str:
        assert list(options["tqdm_class"](iter("abc"), total=3)) == ["a", "b", "c"]
        return str(tmp_path)

    monkeypatch.setattr(hub_module, "snapshot_download", snapshot_download)
    monkeypatch.setattr(hub_module, "_ignored", lambda *_: ())
    states: list[LoadState] = []
    fetch_model(SPEC, Hub(), states.append)
    assert (states[-1].files_done, states[-1].files_total) == (3, 3)


def test_progress_is_not_told_too_often(
    downloads: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "REPORT_INTERVAL_SECONDS", 1e12)
    states: list[LoadState] = []
    fetch_model(SPEC, Hub(), states.append)
    assert len(states) == 1
    assert states[0].bytes_done == 900


def test_only_safetensors_of_the_pinned_revision_are_asked_for(
    downloads: list[dict[str, Any]], tmp_path: Path
) -> None:
    fetch_model(SPEC, Hub(TOKEN, tmp_path), lambda state: None)
    (call,) = downloads
    assert (call["repo_id"], call["revision"]) == ("owner/name", "v9")
    assert (call["token"], call["cache_dir"]) == (TOKEN, tmp_path)
    assert call["local_files_only"] is False
    assert call["ignore_patterns"] == ["*.fp16.*"]
    assert not [each for each in call["allow_patterns"] if each.endswith((".bin", ".py", "*"))]


def test_a_report_that_raises_ends_the_download(downloads: list[dict[str, Any]]) -> None:
    def stop(state: LoadState) -> None:
        raise SetupError("the node was stopped")

    with pytest.raises(SetupError, match="was stopped"):
        fetch_model(SPEC, Hub(), stop)


def test_the_files_to_fetch_are_those_of_the_kind_of_model() -> None:
    repositories = {
        "owner/painter": {"model_index.json": b"{}", "unet/config.json": b"{}"},
        "owner/writer": {"config.json": b"{}", "model.safetensors": b"weights"},
    }
    with FakeHub(repositories).running() as source:
        hub = Hub(endpoint=source.endpoint)
        painter, writer, missing, no_id = (
            files_of(ModelSpec(name, name), hub)
            for name in ("owner/painter", "owner/writer", "owner/missing", "no id at all")
        )
    assert (painter, writer) == (MODEL_FILES, TRANSFORMERS_FILES)
    assert (missing, no_id) == (MODEL_FILES, MODEL_FILES)


def test_no_hub_is_asked_about_a_folder_or_when_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hub_module, "HfApi", None)
    assert files_of(ModelSpec("here", str(tmp_path)), Hub()) == MODEL_FILES
    assert files_of(SPEC, Hub(offline=True)) == MODEL_FILES


def test_variants_are_left_out_where_plain_weights_are() -> None:
    plain = ["unet/w.safetensors", "unet/w.fp16.safetensors", "vae/w.safetensors", "x.safetensors"]
    assert unwanted_variants(plain) == VARIANT_FILES
    assert unwanted_variants(["unet/w.fp16.safetensors", "vae/w.safetensors"]) == ()
    assert unwanted_variants(["unet/w.fp16-00001-of-00002.safetensors"]) == ()


def test_an_empty_cache_has_no_models(tmp_path: Path) -> None:
    assert cached_models(Hub(cache_dir=tmp_path / "none")) == []


def test_the_cache_is_listed_by_id(tmp_path: Path) -> None:
    commit = "a" * 40
    for name in ("models--z--last", "models--a--first", "datasets--a--data"):
        snapshot = tmp_path / name / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "w.safetensors").write_bytes(b"12345")
    found = cached_models(Hub(cache_dir=tmp_path))
    assert [model.id for model in found] == ["a/first", "z/last"]
    assert found[0].revisions == (commit,)


def test_a_lora_is_its_file_or_the_only_one_of_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    file.touch()
    for source in (file, tmp_path):
        assert fetch_lora(LoraSpec("x", str(source)), Hub(), lambda state: None) == file


@pytest.mark.parametrize("names", [[], ["a.safetensors", "b.safetensors"]])
def test_a_folder_without_one_lora_says_how_to_name_it(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(SetupError, match=r"name one as name=source:file.safetensors"):
        fetch_lora(LoraSpec("x", str(tmp_path)), Hub(), lambda state: None)


def test_a_lora_of_several_is_chosen_by_its_file_name(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).touch()
    spec = LoraSpec("x", str(tmp_path), None, "b.safetensors")
    assert fetch_lora(spec, Hub(), lambda state: None) == tmp_path / "b.safetensors"


def test_a_lora_that_is_a_pickle_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "one.bin"
    file.touch()
    with pytest.raises(SetupError, match="is not a safetensors file"):
        fetch_lora(LoraSpec("x", str(file)), Hub(), lambda state: None)
