"""One stack for all tests: each begins with every container running, two of text2image."""

import hashlib
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from tests.compose.stack import ROOT, Stack

PROJECT: Final = f"text2image-test-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"
"""One for each clone: they do not get into each other's way, and clean up after themselves."""


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The demo, started as people start it; nothing of it stays."""
    stack = Stack(PROJECT)
    stack.down()  # what a run left that was killed
    try:
        stack.up("--build")
        yield stack
    finally:
        if request.session.testsfailed:
            sys.stderr.write(stack.compose("logs", "--tail", "50"))
        stack.down()


@pytest.fixture
def two_nodes(stack: Stack) -> Iterator[Stack]:
    """A test may kill and add nodes of text2image; the next one finds two again."""
    yield stack
    stack.up("--scale", "text2image=2")
