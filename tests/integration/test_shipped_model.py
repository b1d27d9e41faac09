"""The model of the package, as a node without settings serves it."""

import base64
import io
from typing import Any

import pytest
from PIL import Image

from contracts.text2image import EXAMPLE_PROMPT, GeneratedImage, Text2ImageRequest
from node.inference.component import Text2ImageComponent
from node.inference.offers import SHIPPED_FOLDER
from node.settings import Settings

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
]


class Quiet:
    """An invocation that nobody watches."""

    job_id = "shipped"

    def stop_requested(self) -> None:
        return None

    def inference_step(self, step: int, num_inference_steps: int) -> None:
        pass

    def preview(self, step: int, data: bytes, media_type: str) -> None:
        pass

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


async def test_it_draws_a_green_horse_under_an_astronaut(component: Text2ImageComponent) -> None:
    result = await component.invoke(Text2ImageRequest(prompt=EXAMPLE_PROMPT, seed=42), Quiet())
    (made,) = result.images
    picture = Image.open(io.BytesIO(base64.b64decode(made.b64_json))).convert("RGB")
    assert picture.size == (128, 128)
    assert result.warnings == []
    below = [picture.getpixel((x, y)) for x in range(24, 104) for y in range(72, 120)]
    green = [1 for red, green, blue in below if green > red + 30 and green > blue + 30]
    assert len(green) > len(below) / 6
    corners = [picture.getpixel(at) for at in ((2, 2), (125, 2))]
    assert all(min(corner) > 200 for corner in corners)


async def test_words_that_it_does_not_know_still_give_a_picture(
    component: Text2ImageComponent,
) -> None:
    request = Text2ImageRequest(prompt="a spaceman on an emerald pony", seed=1)
    result = await component.invoke(request, Quiet())
    assert len(result.images) == 1
    assert any("does not know spaceman" in warning for warning in result.warnings)


def test_it_is_small_and_holds_safetensors_only() -> None:
    files = [path for path in SHIPPED_FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt", ".md"}
