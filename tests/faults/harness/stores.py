"""Stores that go wrong."""

from contextlib import suppress
from pathlib import Path
from uuid import uuid4


def replace_by_a_file(store: Path) -> None:
    """Put a file where the store's folder was."""
    # A process that writes meanwhile makes folders anew.
    while not store.is_file():
        if store.exists():
            store.rename(store.with_name(f"gone-{uuid4().hex}"))
        with suppress(IsADirectoryError):
            store.write_text("in the way")
