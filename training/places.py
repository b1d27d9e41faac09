"""Say where trainings write, where the shipped models lie, and where the emoji font is."""

import os
import sys
from pathlib import Path
from typing import Final

RUNS: Final = Path("runs")
"""Checkpoints, latents and exports; git ignores it."""

SHIPPED: Final = Path(__file__).parent.parent / "node" / "inference" / "shipped"
TEXT2IMAGE: Final = SHIPPED / "emoji-scenes"
CAPTIONER: Final = SHIPPED / "emoji-captioner"
PROMPT_WRITER: Final = SHIPPED / "emoji-prompt-writer"
REPORTS: Final = Path(__file__).parent / "reports"

FONT: Final = Path(
    os.environ.get("EMOJI_FONT", "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
)


class FontMissing(FileNotFoundError):
    """The emoji font is not where it was looked for."""


def require_font() -> None:
    """Raise FontMissing, whose one sentence says what to install."""
    if not FONT.is_file():
        raise FontMissing(
            f"the font Noto Color Emoji is not at {FONT}: on Debian and Ubuntu, "
            "apt-get install fonts-noto-color-emoji; elsewhere, set EMOJI_FONT to its .ttf file"
        )


def exit_without_font() -> None:
    """End a program with that one sentence, before it has begun anything."""
    try:
        require_font()
    except FontMissing as missing:
        sys.exit(f"error: {missing}")
