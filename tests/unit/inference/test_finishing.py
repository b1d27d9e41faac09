"""Pictures become images beside the inference thread."""

import asyncio
import base64
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.text2image import EffectiveParameters, GeneratedImage
from node.errors import GenerationFailed, OutOfMemory
from node.inference.finishing import Finisher
from node.inference.parameters import Plan

PIXELS = np.full((8, 16, 3), 0.5, dtype=np.float32)


@dataclass
class Picture:
    index: int
    seed: int
    pixels: NDArray[np.float32] = field(default_factory=lambda: PIXELS)
    nsfw: bool | None = None


class Listener:
    """Writes down the images that it hears of, once it is let."""

    job_id = "job"

    def __init__(self) -> None:
        self.let = threading.Event()
        self.images: list[GeneratedImage] = []

    def image(self, image: GeneratedImage) -> None:
        self.let.wait(60)
        self.images.append(image)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def finisher(listener: Listener, executor: ThreadPoolExecutor) -> Finisher:
    plan = Plan(EffectiveParameters(prompt="a horse", seed=[3, 4]), {}, ())
    return Finisher(plan, None, listener, executor)  # type: ignore[arg-type]


async def test_pictures_become_images_in_their_order(
    finisher: Finisher, listener: Listener
) -> None:
    listener.let.set()
    for picture in (Picture(0, 3, nsfw=True), Picture(1, 4)):
        finisher.deliver(picture)
    images, seconds = await finisher.images()
    assert [(each.index, each.seed, each.nsfw) for each in images] == [(0, 3, True), (1, 4, None)]
    assert {(each.width, each.height, each.media_type) for each in images} == {(16, 8, "image/png")}
    file = base64.b64decode(images[0].b64_json or "")
    assert images[0].sha256 == hashlib.sha256(file).hexdigest()
    assert sorted(listener.images, key=lambda each: each.index) == images
    assert seconds > 0


async def test_a_picture_that_is_none_fails_the_job(finisher: Finisher, listener: Listener) -> None:
    listener.let.set()
    finisher.deliver(Picture(0, 3))
    finisher.deliver(Picture(1, 4, PIXELS * np.nan))
    with pytest.raises(GenerationFailed, match="NaN"):
        await finisher.images()


async def test_a_picture_that_finds_no_memory_for_its_file_fails_the_job_as_such(
    finisher: Finisher, listener: Listener
) -> None:
    listener.let.set()
    # 10**15 pixels: NumPy is refused the memory for them.
    finisher.deliver(Picture(0, 3, np.broadcast_to(PIXELS[:1, :1], (2**25, 2**25, 3))))
    with pytest.raises(OutOfMemory, match="ask for fewer pixels"):
        await finisher.images()


async def test_once_settled_no_image_is_told_any_more(
    finisher: Finisher, listener: Listener
) -> None:
    finisher.deliver(Picture(0, 3))
    finisher.deliver(Picture(1, 4, PIXELS * np.nan))
    settling = asyncio.create_task(finisher.settle())
    await asyncio.sleep(0)
    assert not settling.done()
    listener.let.set()
    await settling
    assert [image.index for image in listener.images] == [0]
