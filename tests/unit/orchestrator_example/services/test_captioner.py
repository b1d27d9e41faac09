"""The captioner: pictures in words, and whether they show what was asked for."""

import base64
import io
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import cache

import diffusers
import pytest
import torch
from PIL import Image

from node.errors import InvalidRequest, JobStopped
from node.inference.offers import SHIPPED_FOLDER
from orchestrator_example.services.captioner import Captioner
from tests.served import Recording
from tests.unit.orchestrator_example.services.captions import BLANK, captioned, file_of, loaded

# diffusers 0.42 with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

PROMPT = "an astronaut riding a green horse"


@pytest.fixture
async def captioner() -> AsyncIterator[Captioner]:
    """The shipped model."""
    captioner = await loaded()
    yield captioner
    await captioner.close()


@pytest.fixture(scope="module")
def drawn() -> Callable[..., str]:
    """Pictures of the shipped picture model, by prompt and inference steps."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        SHIPPED_FOLDER, dtype=torch.float32, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)

    @cache
    def draw(prompt: str, steps: int = 16) -> str:
        generator = torch.Generator().manual_seed(2)
        given = {"num_inference_steps": steps, "guidance_scale": 2.5, "generator": generator}
        return file_of(pipeline(prompt, width=128, height=128, **given).images[0])

    return draw


def test_importing_it_imports_no_torch() -> None:
    code = (
        "import sys, orchestrator_example.services.captioner; "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


async def test_a_picture_that_shows_its_prompt_matches(
    captioner: Captioner, drawn: Callable[..., str]
) -> None:
    result = await captioned(captioner, image=drawn(PROMPT), prompt=PROMPT, metadata={"a": "b"})
    assert result.text == f"{PROMPT} on a white background"
    assert (result.matches, result.best) == (True, 0)
    (only,) = result.captions
    assert (only.index, only.text, only.matches) == (0, result.text, True)
    assert only.score is not None
    assert only.score > 0.9
    assert (result.model, result.revision) == ("emoji-captioner", None)
    assert (result.warnings, result.metadata) == ([], {"a": "b"})
    assert result.timings.denoise_seconds > 0


async def test_a_picture_of_something_else_does_not_match(
    captioner: Captioner, drawn: Callable[..., str]
) -> None:
    result = await captioned(captioner, image=drawn("two cats"), prompt=PROMPT)
    assert result.matches is False
    assert str(result.text).startswith("two cats")


async def test_a_picture_that_was_not_finished_does_not_match(
    captioner: Captioner, drawn: Callable[..., str]
) -> None:
    result = await captioned(captioner, image=drawn(PROMPT, 1), prompt=PROMPT)
    assert result.matches is False


async def test_the_best_of_several_pictures_is_named(
    captioner: Captioner, drawn: Callable[..., str]
) -> None:
    invocation = Recording()
    images = [drawn("two cats"), drawn(PROMPT, 1), drawn(PROMPT), BLANK]
    result = await captioned(captioner, invocation, images=images, prompt=PROMPT)
    assert (result.best, result.matches) == (2, True)
    assert result.text == result.captions[2].text
    assert [each.index for each in result.captions] == [0, 1, 2, 3]
    assert [each.matches for each in result.captions] == [False, False, True, False]
    assert invocation.steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


async def test_where_none_matches_the_nearest_is_named(
    captioner: Captioner, drawn: Callable[..., str]
) -> None:
    images = [BLANK, drawn("two cats")]
    result = await captioned(captioner, images=images, prompt="three cats on a white background")
    assert result.matches is False
    assert result.best == max(range(2), key=lambda index: result.captions[index].score or 0)


async def test_without_a_prompt_pictures_are_captioned_only(
    captioner: Captioner, drawn: Callable[..., str]
) -> None:
    result = await captioned(captioner, images=[drawn("two cats"), BLANK])
    assert str(result.text).startswith("two cats")
    assert (result.best, result.matches, result.warnings) == (None, None, [])
    assert [(each.score, each.matches) for each in result.captions] == [(None, None)] * 2


async def test_a_prompt_that_names_nothing_known_is_not_judged(captioner: Captioner) -> None:
    result = await captioned(captioner, image=BLANK, prompt="the meaning of life")
    assert (result.matches, result.best) == (None, None)
    assert result.captions[0].score is None
    assert result.warnings == [
        "prompt: it names nothing that this captioner knows; no picture was compared"
    ]


async def test_words_that_are_not_looked_for_are_named(
    captioner: Captioner, drawn: Callable[..., str]
) -> None:
    prompt = "two cats, one of them in a hat"
    result = await captioned(captioner, image=drawn("two cats"), prompt=prompt)
    assert result.matches is True
    assert result.warnings == [
        "prompt: not looked for: them, hat; this captioner knows two things at a time"
    ]


async def test_a_large_picture_is_looked_at_as_a_small_one(
    captioner: Captioner, drawn: Callable[..., str]
) -> None:
    small = Image.open(io.BytesIO(base64.b64decode(drawn("two cats"))))
    large = file_of(small.resize((1600, 1600)))
    result = await captioned(captioner, image=large, prompt="two cats")
    assert result.matches is True


async def test_bytes_that_are_no_picture_are_refused(captioner: Captioner) -> None:
    with pytest.raises(InvalidRequest, match="it is no PNG, JPEG or WebP file"):
        await captioned(captioner, image=base64.b64encode(b"no picture").decode())


async def test_a_job_stops_between_two_pictures(captioner: Captioner) -> None:
    invocation = Recording(stop_after=1)
    with pytest.raises(JobStopped):
        await captioned(captioner, invocation, images=[BLANK] * 3)
    assert invocation.steps == [(1, 3)]
