"""Nodes without enough memory, from the start on, in float16, and by the kernel's will."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contracts.text2image import Identity
from node.errors import OutOfMemory, SetupError
from node.inference.component import Text2ImageComponent
from node.inference.offers import SHIPPED_FOLDER
from tests.checkpoints import build
from tests.scarcity import WITH_TILES, allocate_too_much, memory_for
from tests.served import come_up, file_of, files, pixels, settings

# Of torch and Diffusers among themselves: at import, and in schedulers with NumPy 2.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
]

SCARCE_MEMORY = Path(__file__).with_name("scarce_memory.py")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion with random weights."""
    return build("sd", tmp_path_factory.mktemp("models") / "sd")


async def test_a_model_that_does_not_fit_is_one_clear_line_for_who_starts_the_node(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.inference.engine.load_pipeline", lambda *_: allocate_too_much())
    component = Text2ImageComponent(settings(checkpoint))
    with pytest.raises(SetupError) as raised:
        await component.load(lambda state: None)
    assert str(raised.value) == (
        "sd cannot be loaded: no memory left on cpu for the model sd; a smaller one needs less"
    )
    await component.close()


@pytest.mark.filterwarnings("ignore:.upcast_vae. is deprecated:FutureWarning")
async def test_an_autoencoder_in_float16_gets_its_dtype_back(tmp_path: Path) -> None:
    """SDXL decodes float16 latents in float32, and stays there when it fails."""
    given = settings(build("sdxl", tmp_path / "sdxl"), dtype="float16", max_pixels=512)
    served = await come_up(Text2ImageComponent(given))
    try:
        before, _ = await served.make()
        with memory_for(served.pipeline.vae.decoder, 7), pytest.raises(OutOfMemory):
            await served.make()
        assert served.pipeline.vae.dtype == torch.float16
        after, _ = await served.make()
        assert files(after) == files(before)
    finally:
        await served.component.close()


async def test_tiles_of_a_trained_autoencoder_are_close_to_the_whole() -> None:
    served = await come_up(Text2ImageComponent(settings(SHIPPED_FOLDER, max_pixels=384)))
    try:
        whole, _ = await served.make(width=384, height=320, prompt="a red apple and a cat")
        with memory_for(served.pipeline.vae.decoder, 32):
            tiled, _ = await served.make(width=384, height=320, prompt="a red apple and a cat")
    finally:
        await served.component.close()
    assert tiled.identity is Identity.APPROXIMATE
    one, other = (pixels(file_of(each.images[0])).astype(float) for each in (whole, tiled))
    difference = np.abs(one - other)
    assert 0 < difference.mean() < 0.5
    assert np.percentile(difference, 99) <= 8


@pytest.fixture(scope="module")
def scarce_memory(checkpoint: Path) -> Callable[..., Any]:
    """A process whose address space the kernel limits to so much more than a loaded model needs."""

    def run(extra_mib: int, *requests: dict[str, Any]) -> Any:
        done = subprocess.run(
            [sys.executable, str(SCARCE_MEMORY), str(checkpoint), str(extra_mib)],
            input=json.dumps(requests),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=SCARCE_MEMORY.parents[2],
            env={
                "PYTHONPATH": str(SCARCE_MEMORY.parents[2]),
                "OMP_NUM_THREADS": "1",
                # Only memory that is used counts, and what is freed goes back to the kernel.
                "MALLOC_ARENA_MAX": "1",
                "MALLOC_MMAP_THRESHOLD_": "65536",
            },
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


HUGE = {"prompt": "a horse", "width": 768, "height": 768, "num_inference_steps": 1, "seed": 7}


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS binds on Linux only")
async def test_with_too_little_memory_from_the_kernel_a_picture_is_made_in_tiles(
    scarce_memory: Callable[..., Any],
) -> None:
    report = scarce_memory(110, HUGE, {**HUGE, "strict": True}, {**HUGE, "width": 128})
    tiled, strict, small = report["scarce"]
    assert (tiled["identity"], tiled["warnings"]) == ("approximate", [WITH_TILES])
    assert strict["error"] == "OutOfMemory"
    assert (small["identity"], small["warnings"]) == ("exact", [])
    assert [change["event"] for change in report["changes"]] == [
        "memory.plan_changed",
        "memory.plans_exhausted",
    ]
    tiled_again, strict_again, small_again = report["plenty"]
    assert (tiled_again, small_again) == (tiled, small)
    assert strict_again["identity"] == "exact"
    assert strict_again["sha256"] != tiled["sha256"]
    assert report["healthy"]
