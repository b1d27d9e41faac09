"""The models of the package: what a node without settings serves, and its prompt writer."""

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from contracts.text2image import EXAMPLE_PROMPT, GeneratedImage, Text2ImageRequest
from node.inference.checkpoint import read_preferences
from node.inference.component import Text2ImageComponent
from node.inference.offers import SHIPPED_FOLDER
from node.inference.vocabulary import unknown_words_warning
from node.settings import Settings

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
]


class Quiet:
    """An invocation that keeps its previews, and that nobody watches otherwise."""

    job_id = "shipped"

    def __init__(self) -> None:
        self.previews: list[tuple[int, Image.Image]] = []

    def stop_requested(self) -> None:
        return None

    def inference_step(self, step: int, num_inference_steps: int) -> None:
        pass

    def preview(self, step: int, data: bytes, media_type: str) -> None:
        assert media_type == "image/jpeg"
        self.previews.append((step, Image.open(io.BytesIO(data)).convert("RGB")))

    def image(self, image: GeneratedImage) -> None:
        pass


@pytest.fixture
async def component(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("NODE_MODEL", "MODEL", "NODE_MODELS"):
        monkeypatch.delenv(name, raising=False)
    component = Text2ImageComponent(Settings(offline=True))
    await component.load(lambda _: None)
    yield component
    await component.close()


def picture_of(result: Any) -> Image.Image:
    (made,) = result.images
    return Image.open(io.BytesIO(base64.b64decode(made.b64_json))).convert("RGB")


async def test_it_draws_a_green_horse_under_an_astronaut(component: Text2ImageComponent) -> None:
    result = await component.invoke(Text2ImageRequest(prompt=EXAMPLE_PROMPT, seed=42), Quiet())
    picture = picture_of(result)
    assert picture.size == (128, 128)
    assert result.warnings == []
    below = [picture.getpixel((x, y)) for x in range(24, 104) for y in range(72, 120)]
    green = [1 for red, green, blue in below if green > red + 30 and green > blue + 30]
    assert len(green) > len(below) / 6
    corners = [picture.getpixel(at) for at in ((2, 2), (125, 2))]
    assert all(min(corner) > 200 for corner in corners)


async def test_previews_show_early_versions_and_leave_the_picture_as_it_is(
    component: Text2ImageComponent,
) -> None:
    alone = await component.invoke(Text2ImageRequest(prompt=EXAMPLE_PROMPT, seed=42), Quiet())
    watched = Quiet()
    request = Text2ImageRequest(prompt=EXAMPLE_PROMPT, seed=42, previews=2)
    result = await component.invoke(request, watched)
    assert result.images[0].sha256 == alone.images[0].sha256
    assert result.warnings == []
    assert [step for step, _ in watched.previews] == [5, 11]
    final = np.asarray(picture_of(result), dtype=float)
    errors = [np.abs(np.asarray(made, dtype=float) - final).mean() for _, made in watched.previews]
    assert [made.size for _, made in watched.previews] == [(128, 128)] * 2
    blank = np.abs(final - final.mean(axis=(0, 1))).mean()
    assert 0 < errors[1] < errors[0] < blank / 2


async def test_words_that_it_does_not_know_still_give_a_picture(
    component: Text2ImageComponent,
) -> None:
    request = Text2ImageRequest(prompt="a spaceman on an emerald pony", seed=1)
    result = await component.invoke(request, Quiet())
    assert len(result.images) == 1
    assert any("does not know spaceman" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("name", "most_bytes"),
    [
        ("emoji-scenes", 40_000_000),
        ("emoji-captioner", 15_000_000),
        ("emoji-prompt-writer", 15_000_000),
    ],
)
def test_a_shipped_model_is_small_and_holds_safetensors_only(name: str, most_bytes: int) -> None:
    files = [path for path in (SHIPPED_FOLDER.parent / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= most_bytes
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt", ".md"}
    assert any(path.suffix == ".safetensors" for path in files)
    assert (SHIPPED_FOLDER.parent / name / "README.md").is_file()


@pytest.fixture(scope="module")
def rewrite() -> Callable[[str], str]:
    """The shipped prompt writer: free text in, one caption out."""
    folder = SHIPPED_FOLDER.parent / "emoji-prompt-writer"
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSeq2SeqLM.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
    ).eval()

    def write(text: str) -> str:
        inputs = tokenizer(text, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(**inputs)
        return str(tokenizer.decode(ids[0], skip_special_tokens=True)).strip()

    return write


@pytest.mark.parametrize(
    "text",
    [
        "a spaceman on an emerald pony",
        "a cosmonaut rides a lime-coloured stallion",
        "A COSMONAUT RIDES A LIME-COLOURED STALLION",
        "An astronaut riding a green horse",
    ],
)
def test_the_prompt_writer_says_it_in_words_that_the_picture_model_knows(
    rewrite: Callable[[str], str], text: str
) -> None:
    assert rewrite(text) == "an astronaut riding a green horse"


@pytest.mark.parametrize("text", ["", "a", "hello world", "Grüße 你好", "horse " * 500, "?!"])
def test_the_prompt_writer_has_a_caption_for_any_text(
    rewrite: Callable[[str], str], text: str
) -> None:
    vocabulary = read_preferences(SHIPPED_FOLDER).vocabulary
    written = rewrite(text)
    assert len(written.split()) >= 2
    assert unknown_words_warning(written, vocabulary) is None
