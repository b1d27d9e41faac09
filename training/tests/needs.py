"""Say what a test needs of the machine."""

import pytest

from training.places import FONT

font = pytest.mark.skipif(
    not FONT.is_file(),
    reason="needs the font Noto Color Emoji: apt-get install fonts-noto-color-emoji",
)
