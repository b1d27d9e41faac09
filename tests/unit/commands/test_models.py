"""`models`: what is fetched is there afterwards, whichever kind of model it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from node import cli
from tests.fake_hub import FakeHub

REPOSITORIES = {
    "owner/painter": {
        "model_index.json": b"{}",
        "unet/model.safetensors": b"weights",
        "everything.safetensors": b"the same once more",
    },
    "owner/writer": {
        "config.json": b"{}",
        "model.safetensors": b"weights",
        "pytorch_model.bin": b"a pickle",
    },
}


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with a model of each kind, and an empty cache."""
    with FakeHub(REPOSITORIES).running() as hub:
        hub.become_default(monkeypatch)
        monkeypatch.setenv("NODE_CACHE_DIR", str(tmp_path))
        yield hub


@pytest.mark.parametrize(
    ("model", "files"),
    [
        ("owner/painter", {"model_index.json", "unet/model.safetensors"}),
        ("owner/writer", {"config.json", "model.safetensors"}),
    ],
)
def test_a_fetched_model_has_its_weights_and_nothing_else(model: str, files: set[str]) -> None:
    result = CliRunner().invoke(cli.app, ["models", "fetch", model])
    assert result.exit_code == 0, result.output
    folder = Path(result.output.splitlines()[-1])
    found = (path for path in folder.rglob("*") if path.is_file())
    assert {str(path.relative_to(folder)) for path in found} == files
    assert model in CliRunner().invoke(cli.app, ["models", "list"]).output


def test_an_empty_cache_says_how_to_fill_it() -> None:
    assert "models fetch ID" in CliRunner().invoke(cli.app, ["models", "list"]).output
