"""Fixtures of the integration tests: tiny checkpoints of every family."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Build the checkpoint of a family, at most once."""
    from tests.checkpoints import build  # imports torch

    root = tmp_path_factory.mktemp("models")

    def get(family: str) -> Path:
        folder = root / family
        return folder if folder.is_dir() else build(family, folder)

    return get
