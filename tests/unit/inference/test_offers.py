"""What a node offers, as an operator spells it."""

from pathlib import Path

import pytest

from node.errors import SetupError
from node.inference.offers import LoraSpec, ModelSpec, parse_loras, parse_models


def test_a_hub_id_is_its_own_name() -> None:
    assert parse_models("stabilityai/sdxl-turbo", []) == [
        ModelSpec("stabilityai/sdxl-turbo", "stabilityai/sdxl-turbo")
    ]


def test_a_revision_is_pinned_behind_an_at_sign() -> None:
    (spec,) = parse_models("owner/name@refs/pr/1", [])
    assert (spec.name, spec.source, spec.revision) == ("owner/name", "owner/name", "refs/pr/1")


def test_a_model_can_be_given_a_name() -> None:
    (spec,) = parse_models(" fast = owner/name@main ", [])
    assert (spec.name, spec.source, spec.revision) == ("fast", "owner/name", "main")


def test_a_folder_is_called_as_its_last_part(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (spec,) = parse_models(str(folder), [])
    assert spec == ModelSpec("tiny", str(folder))
    assert spec.is_local


def test_a_folder_with_an_odd_name_needs_a_plain_one(tmp_path: Path) -> None:
    folder = tmp_path / "my model"
    folder.mkdir()
    with pytest.raises(SetupError, match="write name="):
        parse_models(str(folder), [])
    assert parse_models(f"plain={folder}", []) == [ModelSpec("plain", str(folder))]


def test_a_folder_in_a_hidden_place_or_with_an_at_sign_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tiny@2"
    folder.mkdir()
    (spec,) = parse_models(f"tiny={folder}", [])
    assert (spec.source, spec.revision) == (str(folder), None)


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tiny").mkdir()
    assert parse_models("~/tiny", []) == [ModelSpec("tiny", str(tmp_path / "tiny"))]


@pytest.mark.parametrize("text", ["/no/such/folder", "./missing", "~/missing-folder", "../missing"])
def test_a_missing_folder_is_one_clear_line(text: str) -> None:
    with pytest.raises(SetupError, match="there is no such folder") as raised:
        parse_models(text, [])
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["a/b/c", "https://x.org/m", "a b", "@main", "name=", "ünter"])
def test_what_is_neither_id_nor_folder_is_one_clear_line(text: str) -> None:
    with pytest.raises(SetupError) as raised:
        parse_models(text, [])
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


def test_where_no_model_is_set_it_is_the_shipped_one() -> None:
    (spec,) = parse_models(None, [])
    assert (spec.name, spec.is_local) == ("emoji-scenes", True)


def test_the_default_comes_first_and_may_be_listed_again() -> None:
    specs = parse_models("a/b", ["c/d", "a/b", "e/f"])
    assert [spec.name for spec in specs] == ["a/b", "c/d", "e/f"]
    assert [spec.name for spec in parse_models(None, ["c/d", "e/f"])] == ["c/d", "e/f"]


@pytest.mark.parametrize(
    "further", [["a/b@other"], ["x=c/d", "x=e/f"]], ids=["two revisions", "one name"]
)
def test_two_models_of_one_name_are_refused(further: list[str]) -> None:
    with pytest.raises(SetupError, match="two models have the same name"):
        parse_models("a/b", further)


def test_two_models_that_would_share_a_queue_are_refused() -> None:
    with pytest.raises(SetupError, match="two models have the same name"):
        parse_models("owner/Name", ["owner/name"])


def test_a_lora_is_a_file_a_folder_or_a_hub_id(tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    file.touch()
    specs = parse_loras(
        [
            f"file={file}",
            f"folder={tmp_path}",
            f"chosen={tmp_path}:one.safetensors",
            "hub=owner/name",
            "pinned=owner/name@main:w.safetensors",
        ]
    )
    assert specs == {
        "file": LoraSpec("file", str(file)),
        "folder": LoraSpec("folder", str(tmp_path)),
        "chosen": LoraSpec("chosen", str(tmp_path), None, "one.safetensors"),
        "hub": LoraSpec("hub", "owner/name"),
        "pinned": LoraSpec("pinned", "owner/name", "main", "w.safetensors"),
    }
    assert [spec.is_local for spec in specs.values()] == [True, True, True, False, False]


@pytest.mark.parametrize("text", ["owner/name", "=owner/name", "a b=owner/name", "a/b=owner/name"])
def test_a_lora_needs_a_plain_name(text: str) -> None:
    with pytest.raises(SetupError, match="name=path-or-hub-id"):
        parse_loras([text])


@pytest.mark.parametrize("text", ["x=/no/such/file.safetensors", "x=a/b/c", "x="])
def test_a_lora_that_is_nowhere_is_one_clear_line(text: str) -> None:
    with pytest.raises(SetupError, match="neither a hub id nor an existing path"):
        parse_loras([text])


def test_two_loras_of_one_name_are_refused() -> None:
    with pytest.raises(SetupError, match="two LoRAs have the same name: x"):
        parse_loras(["x=a/b", "x=c/d"])


def test_no_loras_are_none() -> None:
    assert parse_loras([]) == {}
