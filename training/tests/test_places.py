"""Without the emoji font, one sentence says what to install."""

from pathlib import Path

import pytest

from training import places, scenes
from training.places import FontMissing, exit_without_font


@pytest.fixture
def no_font(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The font is not installed."""
    monkeypatch.setattr(places, "FONT", tmp_path / "NotoColorEmoji.ttf")


@pytest.mark.usefixtures("no_font")
def test_programs_end_with_a_sentence_that_says_what_to_install() -> None:
    with pytest.raises(SystemExit, match="apt-get install fonts-noto-color-emoji") as ended:
        exit_without_font()
    assert str(ended.value).startswith("error: ")
    assert "\n" not in str(ended.value)


@pytest.mark.usefixtures("no_font")
def test_rendering_says_it_too() -> None:
    scenes._glyph.cache_clear()
    with pytest.raises(FontMissing, match="fonts-noto-color-emoji"):
        scenes._glyph("\N{HORSE}")


def test_a_font_that_is_there_ends_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    font = tmp_path / "NotoColorEmoji.ttf"
    font.touch()
    monkeypatch.setattr(places, "FONT", font)
    exit_without_font()


def test_the_shipped_models_lie_where_the_package_has_them() -> None:
    assert (places.TEXT2IMAGE / "model_index.json").is_file()
    assert (places.CAPTIONER / "config.json").is_file()
