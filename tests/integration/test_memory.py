"""Jobs without enough memory: real pipelines, and allocations that torch really refuses."""

import dataclasses
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import pytest
import pytest_asyncio
import torch
from structlog.testing import capture_logs

from contracts.text2image import Identity
from node.errors import JobStopped, OutOfMemory
from node.inference.component import Text2ImageComponent
from node.inference.memory_ladder import MemoryLadder
from node.inference.memory_plan import Measure
from tests.checkpoints import build, build_lora
from tests.scarcity import (
    WITH_TILES,
    allocate_too_much,
    memory_for,
    no_memory_from_call,
    offload_layers_to_cpu,
)
from tests.served import STEPS, Recording, Served, come_up, files, settings

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # Of torch and Diffusers among themselves: at import, and in schedulers with NumPy 2.
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
]

LARGE = {"width": 320, "height": 320}
LARGEST = {"width": 384, "height": 320}

Inputs = tuple[torch.Tensor, ...]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion with random weights, 8 pixels to a latent."""
    return build("sd", tmp_path_factory.mktemp("models") / "sd")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loaded(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    lora = build_lora(tmp_path_factory.mktemp("loras"), "noise")
    given = settings(checkpoint, loras=[f"noise={lora}"], max_pixels=1024)
    served = await come_up(Text2ImageComponent(given))
    yield served
    await served.component.close()


@pytest.fixture
def served(loaded: Served) -> Iterator[Served]:
    """A component that remembers nothing of earlier tests, and is found as it was after each."""
    loaded.component._engine._ladder = MemoryLadder()
    before = state(loaded.pipeline)
    yield loaded
    assert state(loaded.pipeline) == before


def state(pipeline: Any) -> Any:
    """Everything about a pipeline that a measure could change."""
    # Accelerate leaves the method `forward` behind as an attribute of the instance.
    attributes = {
        name: each
        for name, each in vars(pipeline.vae).items()
        if not name.startswith("_") and name != "forward"
    }
    weights = [
        (weight.device.type, weight.dtype, weight.stride())
        for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder)
        for weight in module.parameters()
    ]
    hooked = [
        name
        for part in ("unet", "vae", "text_encoder")
        for name, module in getattr(pipeline, part).named_modules(prefix=part)
        if hasattr(module, "_hf_hook")
    ]
    return attributes, weights, hooked, pipeline.scheduler, bool(pipeline.get_active_adapters())


@contextmanager
def with_measures(served: Served, *measures: Measure) -> Iterator[None]:
    """Let the engine take measures that the CPU does not need."""
    traits = served.component._engine._traits
    before = traits[served.name]
    traits[served.name] = dataclasses.replace(before, measures=frozenset(measures))
    try:
        yield
    finally:
        traits[served.name] = before


async def test_a_decode_without_memory_is_repeated_in_tiles_and_the_result_says_so(
    served: Served,
) -> None:
    with memory_for(served.pipeline.vae.decoder, 32) as sides, capture_logs() as logs:
        result, recording = await served.make(**LARGE)
    assert result.identity is Identity.APPROXIMATE
    assert result.warnings == [WITH_TILES]
    assert sides == [40, 32, 32, 32, 16]
    assert recording.images == result.images
    assert (result.images[0].width, result.images[0].height) == (320, 320)
    (line,) = [line for line in logs if line["event"] == "memory.plan_changed"]
    assert (line["model"], line["width"], line["height"]) == ("sd", 320, 320)
    assert (line["from_plan"], line["to_plan"]) == ("the plain way", "VAE tiling")


async def test_the_next_job_is_made_as_if_nothing_had_been(served: Served) -> None:
    before, _ = await served.make(**LARGE)
    with memory_for(served.pipeline.vae.decoder, 32):
        await served.make(**LARGEST)
    after, _ = await served.make(**LARGE)
    assert files(after) == files(before)
    assert (after.identity, after.warnings) == (Identity.EXACT, [])


async def test_progress_never_falls_and_no_step_is_told_twice(served: Served) -> None:
    with memory_for(served.pipeline.vae.decoder, 32):
        result, recording = await served.make(**LARGE, num_images_per_prompt=2, previews=2)
    assert recording.steps == [(step, 2 * STEPS) for step in range(1, 2 * STEPS + 1)]
    assert len(recording.previews) == 2
    assert [image.index for image in recording.images] == [0, 1]
    assert result.timings.denoise_seconds > 0


async def test_what_worked_is_remembered_for_that_shape_and_larger_ones(served: Served) -> None:
    with memory_for(served.pipeline.vae.decoder, 32) as sides:
        await served.make(**LARGE)
        for shape in (LARGE, LARGEST):
            del sides[:]
            result, _ = await served.make(**shape)
            assert max(sides) == 32
            assert result.warnings == [WITH_TILES]
        smaller, _ = await served.make(width=256, height=256)
    assert (smaller.identity, smaller.warnings) == (Identity.EXACT, [])


async def test_a_strict_job_is_never_made_in_tiles(served: Served) -> None:
    plain, _ = await served.make(**LARGE)
    with memory_for(served.pipeline.vae.decoder, 32) as sides:
        with pytest.raises(OutOfMemory, match="no memory left on cpu for an image of 320x320"):
            await served.make(**LARGE, strict=True)
        assert sides == [40]
        await served.make(**LARGE)
    strict, _ = await served.make(**LARGE, strict=True)
    assert files(strict) == files(plain)
    assert strict.identity is Identity.EXACT


async def test_where_tiles_are_too_large_as_well_the_job_fails(served: Served) -> None:
    with (
        memory_for(served.pipeline.vae.decoder, 31),
        pytest.raises(OutOfMemory, match="320x320 with VAE tiling; a smaller one"),
    ):
        await served.make(**LARGE)


async def test_a_denoising_without_memory_is_not_repeated_where_nothing_helps(
    served: Served,
) -> None:
    with (
        memory_for(served.pipeline.unet.mid_block, 10) as sides,
        pytest.raises(OutOfMemory, match="an image of 320x320; a"),
    ):
        await served.make(**LARGE)
    assert sides == [20]


async def test_images_that_are_done_are_not_made_again(served: Served) -> None:
    plain, _ = await served.make(**LARGE, num_images_per_prompt=4, num_inference_steps=1)
    with (
        memory_for(served.pipeline.unet, 1024) as forwards,
        no_memory_from_call(served.pipeline.vae.decoder, 3, 3),
    ):
        result, recording = await served.make(
            **LARGE, num_images_per_prompt=4, num_inference_steps=1
        )
    assert len(forwards) == 5
    assert [image.index for image in recording.images] == [0, 1, 2, 3]
    same = [made == wanted for made, wanted in zip(files(result), files(plain), strict=True)]
    assert same == [True, True, False, False]
    assert result.identity is Identity.APPROXIMATE
    assert result.warnings == [WITH_TILES]


async def test_a_job_stops_also_while_it_is_repeated(served: Served) -> None:
    recording = Recording()

    def cancelled_by_now(_module: Any, _inputs: Inputs) -> None:
        recording.stop_after = 0
        allocate_too_much()

    handle = served.pipeline.vae.decoder.register_forward_pre_hook(cancelled_by_now)
    with pytest.raises(JobStopped):
        await served.make(recording, **LARGE)
    handle.remove()
    assert recording.images == []
    assert len(recording.steps) == STEPS


async def test_what_a_vain_attempt_had_is_freed_before_the_next(served: Served) -> None:
    latents: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []

    def note(_module: Any, inputs: Inputs) -> None:
        if not latents:
            latents.append(weakref.ref(inputs[0]))
            allocate_too_much()
        alive.append(latents[0]() is not None)

    gc.disable()
    handle = served.pipeline.vae.decoder.register_forward_pre_hook(note)
    try:
        await served.make(**LARGE)
    finally:
        handle.remove()
        gc.enable()
    assert set(alive) == {False}


async def test_a_lora_counts_in_the_repetition_too(served: Served) -> None:
    lora = {"loras": [{"name": "noise", "scale": 1.0}]}
    plain, _ = await served.make(**LARGE)
    with memory_for(served.pipeline.vae.decoder, 32):
        without, _ = await served.make(**LARGE)
        result, _ = await served.make(**LARGE, **lora)
        again, _ = await served.make(**LARGE, **lora)
    assert files(result) == files(again)
    assert len({*files(plain), *files(without), *files(result)}) == 3


@pytest.fixture
def offload_without_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        diffusers.DiffusionPipeline, "enable_sequential_cpu_offload", offload_layers_to_cpu
    )


OFFLOADS = (Measure.MODEL_OFFLOAD, Measure.SEQUENTIAL_OFFLOAD)


@pytest.mark.usefixtures("offload_without_index")
@pytest.mark.parametrize("failures", [1, 2])
async def test_a_denoising_without_memory_is_repeated_with_offload_bit_for_bit(
    served: Served, failures: int
) -> None:
    fields = {"loras": [{"name": "noise", "scale": 1.0}], "previews": 1, "num_images_per_prompt": 2}
    plain, _ = await served.make(**fields, strict=True)
    with (
        with_measures(served, *OFFLOADS),
        no_memory_from_call(served.pipeline.unet.mid_block, 2, 1 + failures),
    ):
        result, recording = await served.make(**fields, strict=True)
        again, _ = await served.make(**fields, strict=True)
    assert files(result) == files(again) == files(plain)
    assert result.identity is Identity.EXACT
    measure = OFFLOADS[failures - 1]
    assert result.warnings == [
        f"memory: made with {measure}, since the plain way ran out of memory"
    ]
    assert again.warnings == result.warnings
    assert recording.steps == [(step, 2 * STEPS) for step in range(1, 2 * STEPS + 1)]
    assert len(recording.previews) == 1


@pytest.mark.usefixtures("offload_without_index")
async def test_where_offload_is_no_help_either_the_pipeline_is_whole_again(served: Served) -> None:
    before, _ = await served.make()
    with (
        with_measures(served, *OFFLOADS),
        no_memory_from_call(served.pipeline.unet.mid_block, 1, 99),
        pytest.raises(OutOfMemory, match="with sequential offload"),
    ):
        await served.make()
    after, _ = await served.make()
    assert files(after) == files(before)
