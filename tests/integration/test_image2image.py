"""image2image beside text2image, with real Diffusers pipelines: four families, the same weights."""

import asyncio
import base64
import gc
import hashlib
import io
import json
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import pytest_asyncio
import torch
from PIL import Image

from contracts.image2image import Image2ImageParameters, Image2ImageRequest, Image2ImageResult
from contracts.result import Status
from contracts.text2image import Identity, Text2ImageRequest, Text2ImageResult
from node.component import Health
from node.errors import (
    InternalError,
    InvalidRequest,
    JobStopped,
    ModelNotAvailable,
    OutOfMemory,
    SetupError,
)
from node.inference.component import Text2ImageComponent
from node.inference.memory_ladder import MemoryLadder
from node.inference.memory_plan import Measure
from node.inference.offers import SHIPPED_FOLDER
from node.stores.artifacts import FsspecArtifactStore
from orchestrator_example.services.image2image import Image2ImageComponent
from tests.checkpoints import FAMILIES, build_lora
from tests.scarcity import WITH_TILES, memory_for, no_memory_from_call, offload_layers_to_cpu
from tests.served import STEPS, Recording, Served, files, once, pictures, pixels, settings

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # Of torch and Diffusers among themselves: at import, and in schedulers with NumPy 2.
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
]

STEPS_BY_STRENGTH = [(1, 1.0), (3, 1.0), (4, 0.5), (5, 0.3), (7, 0.29), (10, 0.1 + 0.2), (3, 0.99)]


def photo(width: int = 64, height: int = 64, seed: int = 0) -> str:
    """A picture file in base64."""
    values = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).resize((width, height)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


class Pair:
    """Both components of a process, loaded at the same time, and what their jobs report."""

    def __init__(self, folder: Path, **given: Any) -> None:
        both = settings(folder, **given)
        self.text, self.image = Text2ImageComponent(both), Image2ImageComponent(both)
        self.image.share(self.text)
        self.name = self.text.models()[0].id
        self.seen = Recording()

    async def load(self) -> "Pair":
        await asyncio.gather(self.text.load(lambda _: None), self.image.load(lambda _: None))
        return self

    async def close(self) -> None:
        await self.text.close()
        await self.image.close()

    @property
    def pipeline(self) -> Any:
        return self.image._engine._pipelines[f"image2image:{self.name}"]

    @property
    def plain(self) -> Served:
        return Served(self.text, self.name, Health(healthy=True), [])

    @property
    def denoiser(self) -> torch.nn.Module:
        return self.plain.denoiser

    async def make(self, invocation: Recording | None = None, **fields: Any) -> Image2ImageResult:
        """Admit and run a small request, as a worker does."""
        values = {"prompt": "a horse", "image": photo(), "strength": 1.0, "seed": 7}
        request = Image2ImageRequest(**values | {"num_inference_steps": STEPS} | fields)
        self.seen = invocation or Recording()
        self.image.admit(request)
        result = await self.image.invoke(request, self.seen)
        assert isinstance(result, Image2ImageResult)
        return result


Serve = Callable[[str], Awaitable[Pair]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def serve(
    checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, store: Path
) -> AsyncIterator[Serve]:
    """Bring up both components with the model of a family, at most once."""
    lora = build_lora(tmp_path_factory.mktemp("loras"), "noise")
    pairs: dict[str, Pair] = {}

    async def get(family: str) -> Pair:
        if family not in pairs:
            given = {
                "loras": [f"noise={lora}"],
                "artifact_store": store.as_uri(),
                "max_pixels": 384,
            }
            pairs[family] = await Pair(checkpoint(family), **given).load()
        return pairs[family]

    yield get
    for pair in pairs.values():
        await pair.close()


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def addresses(pipeline: Any) -> dict[str, list[int]]:
    return {
        name: [weight.data_ptr() for weight in module.parameters()]
        for name, module in pipeline.components.items()
        if isinstance(module, torch.nn.Module)
    }


async def test_both_use_the_same_weights_in_the_same_place(serve: Serve, family: str) -> None:
    pair = await serve(family)
    assert type(pair.pipeline).__name__ == type(pair.plain.pipeline).__name__.replace(
        "Pipeline", "Img2ImgPipeline"
    )
    assert addresses(pair.pipeline) == addresses(pair.plain.pipeline)
    assert sum(map(len, addresses(pair.pipeline).values())) > 100
    assert pair.image._engine is pair.text._engine


def weight_bytes() -> int:
    """Bytes of all weights that live in this process."""
    gc.collect()
    weights = {
        each.untyped_storage().data_ptr(): each.untyped_storage().nbytes()
        for each in gc.get_objects()
        if type(each) is torch.nn.Parameter
    }
    return sum(weights.values())


async def test_the_second_component_adds_no_byte_of_weights(
    checkpoint: Callable[[str], Path],
) -> None:
    before = weight_bytes()
    pair = Pair(checkpoint("sd"))
    await pair.text.load(lambda _: None)
    loaded = weight_bytes()
    assert loaded > before
    await pair.image.load(lambda _: None)
    assert weight_bytes() == loaded
    await pair.close()


async def test_text2image_has_the_same_bytes_whatever_image2image_did(
    serve: Serve, family: str
) -> None:
    pair = await serve(family)
    alone, _ = await pair.plain.make()
    await pair.make(num_images_per_prompt=2, previews=1)
    with once(pair.denoiser, torch.OutOfMemoryError("CUDA out of memory")), suppress(OutOfMemory):
        await pair.make()
    with pytest.raises(JobStopped):
        await pair.make(Recording(stop_after=1))
    after, _ = await pair.plain.make()
    assert files(after) == files(alone)


async def test_jobs_of_both_at_the_same_time_have_the_bytes_of_jobs_alone(serve: Serve) -> None:
    pair = await serve("sd")
    alone = files((await pair.plain.make())[0]), files(await pair.make())
    (text, _), image, (again, _) = await asyncio.gather(
        pair.plain.make(), pair.make(), pair.plain.make()
    )
    assert (files(text), files(image)) == alone
    assert files(again) == alone[0]


async def test_an_image_has_the_size_of_its_picture(serve: Serve, family: str) -> None:
    pair = await serve(family)
    result = await pair.make(image=photo(96, 64))
    (image,) = result.images
    with Image.open(io.BytesIO(files(result)[0])) as opened:
        assert (opened.format, opened.size, opened.mode) == ("PNG", (96, 64), "RGB")
    assert (image.width, image.height) == (96, 64)
    assert result.status is Status.SUCCEEDED
    assert result.identity is Identity.EXACT
    assert result.warnings == []
    assert pair.seen.images == result.images
    assert result.timings.encode_seconds > 0


async def test_a_picture_off_the_grid_is_resized_and_the_result_says_so(
    serve: Serve, family: str
) -> None:
    pair = await serve(family)
    grid = pair.image.models()[0].limits.size_granularity
    width = {8: 104, 16: 96}[grid]
    result = await pair.make(image=photo(101, 64))
    assert result.warnings == [f"image: resized from 101x64 to {width}x64"]
    assert (result.images[0].width, result.images[0].height) == (width, 64)


@pytest.mark.parametrize(
    ("size", "given", "made"),
    [
        ((1000, 500), {}, (384, 192)),
        ((32, 16), {}, (128, 64)),
        ((128, 64), {"width": 64}, (64, 64)),
        ((128, 64), {"height": 128}, (256, 128)),
        ((128, 64), {"width": 64, "height": 96}, (64, 96)),
    ],
)
async def test_what_is_too_large_or_too_small_keeps_its_proportions(
    serve: Serve, size: tuple[int, int], given: dict[str, int], made: tuple[int, int]
) -> None:
    result = await (await serve("sd")).make(image=photo(*size), num_inference_steps=1, **given)
    assert (result.images[0].width, result.images[0].height) == made
    assert result.warnings == [f"image: resized from {size[0]}x{size[1]} to {made[0]}x{made[1]}"]


@pytest.mark.parametrize(("steps", "strength"), STEPS_BY_STRENGTH)
async def test_the_steps_that_are_reported_are_those_that_are_run(
    serve: Serve, family: str, steps: int, strength: float
) -> None:
    pair = await serve(family)
    forwards: list[int] = []
    handle = pair.denoiser.register_forward_pre_hook(lambda *_: forwards.append(1))
    scheduler = {"scheduler": "DDIMScheduler"} if family == "sd" else {}
    try:
        result = await pair.make(num_inference_steps=steps, strength=strength, **scheduler)
    finally:
        handle.remove()
    assert pair.seen.steps == [(step, len(forwards)) for step in range(1, len(forwards) + 1)]
    assert result.parameters is not None
    assert result.parameters.denoising_steps == len(forwards)
    assert result.parameters.num_inference_steps == steps
    assert result.parameters.strength == strength


async def test_a_strength_that_leaves_no_step_is_refused_where_steps_are_rounded_down(
    serve: Serve, family: str
) -> None:
    pair = await serve(family)
    if family in ("sd3", "flux"):
        await pair.make(num_inference_steps=4, strength=0.1)
        assert pair.seen.steps == [(1, 1)]
        return
    with pytest.raises(InvalidRequest) as raised:
        await pair.make(num_inference_steps=4, strength=0.1)
    assert raised.value.detail == (
        "strength: 0.1 of 4 inference steps leaves none to run; ask for more steps, or for a "
        "strength of at least 0.25"
    )
    assert pair.seen.steps == []
    await pair.make(num_inference_steps=4, strength=0.25)
    assert pair.seen.steps == [(1, 1)]


async def test_the_model_decides_what_a_request_does_not_say(serve: Serve, family: str) -> None:
    result = await (await serve(family)).make(
        strength=None, num_inference_steps=None, guidance_scale=None
    )
    assert result.parameters is not None
    strength, steps = {
        "sd": (0.8, 16),
        "sdxl": (0.3, 6),
        "sd3": (0.6, 12),
        "flux": (0.6, 12),
    }[family]
    assert (result.parameters.strength, result.parameters.denoising_steps) == (strength, steps)
    assert result.parameters.image_sha256 == hashlib.sha256(base64.b64decode(photo())).hexdigest()


async def test_the_same_seed_gives_the_same_bytes_and_another_others(
    serve: Serve, family: str
) -> None:
    pair = await serve(family)
    first, other = await pair.make(strength=0.7), await pair.make(strength=0.7, seed=8)
    again = await pair.make(Recording("another-job"), strength=0.7)
    assert files(first) == files(again)
    assert pictures(first) != pictures(other)


async def test_many_images_equal_single_ones_with_seeds_that_count_up(serve: Serve) -> None:
    pair = await serve("sd")
    many = await pair.make(num_images_per_prompt=2, seed=40)
    assert pair.seen.steps == [(step, 2 * STEPS) for step in range(1, 2 * STEPS + 1)]
    assert files(many) == [files(await pair.make(seed=seed))[0] for seed in (40, 41)]


CHANGES: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": "a house"},
    "negative_prompt": {"negative_prompt": "blurry, low quality"},
    "width": {"width": 96},
    "height": {"height": 96},
    "num_inference_steps": {"num_inference_steps": STEPS},
    "guidance_scale": {"guidance_scale": 2.0},
    "num_images_per_prompt": {"num_images_per_prompt": 2},
    "seed": {"seed": [8]},
    "scheduler": {"scheduler": "DDIMScheduler"},
    "loras": {"loras": [{"name": "noise", "scale": 1.0}]},
    "image": {"image": photo(seed=1)},
    "strength": {"strength": 0.4},
}
ANSWERED_ELSEWHERE = {
    *("model", "output_format", "output_quality", "response", "previews", "strict", "metadata")
}


async def test_no_request_field_is_forgotten() -> None:
    assert set(CHANGES) | ANSWERED_ELSEWHERE == set(Image2ImageRequest.model_fields)


@pytest.mark.parametrize("name", CHANGES)
async def test_every_field_that_shapes_a_picture_has_an_effect_or_is_answered(
    serve: Serve, family: str, name: str
) -> None:
    pair = await serve(family)
    usual = {"strength": 0.6, "num_inference_steps": STEPS + 2}
    plain = await pair.make(**usual)
    try:
        changed = await pair.make(**usual | CHANGES[name])
    except InvalidRequest as refusal:
        assert refusal.detail.startswith(name)  # noqa: PT017 - a refusal is one of three answers
        assert name in ("scheduler", "loras")
        assert (family, name) != ("sd", "loras")
    else:
        said = [warning for warning in changed.warnings if warning.startswith(name)]
        assert pictures(changed) != pictures(plain) or said
    assert files(await pair.make(**usual)) == files(plain)


async def test_effective_parameters_make_the_same_picture_again(serve: Serve) -> None:
    pair = await serve("sd")
    first = await pair.make(Recording("job-9"), seed=None, guidance_scale=None, strength=None)
    assert first.parameters is not None
    told = set(Image2ImageParameters.model_fields) - set(Image2ImageRequest.model_fields)
    assert told == {"denoising_steps", "image_sha256"}
    repeated = first.parameters.model_dump(mode="json", exclude=told) | {"output_quality": None}
    assert files(await pair.make(**repeated)) == files(first)


async def test_the_file_says_how_the_picture_came_about(serve: Serve) -> None:
    result = await (await serve("sd")).make(strength=0.7)
    with Image.open(io.BytesIO(files(result)[0])) as opened:
        texts = opened.info
    generation = json.loads(texts["generation"])
    assert generation["strength"] == 0.7
    assert generation["image_sha256"] == hashlib.sha256(base64.b64decode(photo())).hexdigest()
    assert "Denoising strength: 0.7" in texts["parameters"]


async def test_a_result_survives_the_wire(serve: Serve) -> None:
    result = await (await serve("sd")).make(strength=0.7, metadata={"album": "space"})
    assert Image2ImageResult.model_validate_json(result.to_json()) == result
    assert result.metadata == {"album": "space"}


async def test_an_image_of_text2image_is_taken_as_it_is(serve: Serve) -> None:
    pair = await serve("sd")
    made, _ = await pair.plain.make()
    given = made.images[0]
    inline = await pair.make(image=given, strength=0.7)
    assert inline.parameters is not None
    assert inline.parameters.image_sha256 == given.sha256
    assert files(inline) == files(await pair.make(image=given.b64_json, strength=0.7))


async def test_an_image_in_the_shared_store_is_read_and_no_other(serve: Serve, store: Path) -> None:
    pair = await serve("sd")
    data = base64.b64decode(photo(seed=5))
    sha256 = hashlib.sha256(data).hexdigest()
    kept = await FsspecArtifactStore(store.as_uri()).put(data, sha256, "image/png")
    given = {"index": 0, "media_type": "image/png", "width": 64, "height": 64, "seed": 0}
    result = await pair.make(image={**given, "uri": kept, "sha256": sha256})
    assert files(result) == files(await pair.make(image=photo(seed=5)))
    with pytest.raises(InvalidRequest, match="not in this node's artifact store"):
        await pair.make(image={**given, "uri": "file:///etc/hostname", "sha256": sha256})


@pytest.mark.parametrize("image", ["", "horse", base64.b64encode(b"%PDF-1.4").decode()])
async def test_what_is_no_picture_is_refused_before_the_device_is_asked_for(
    serve: Serve, image: str
) -> None:
    pair = await serve("sd")
    with pytest.raises(InvalidRequest, match=r"^image: "):
        await pair.make(image=image)
    assert pair.seen.steps == []


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.EXPIRED])
async def test_a_stopped_job_takes_no_further_step_and_leaves_no_trace(
    serve: Serve, family: str, status: Status
) -> None:
    pair = await serve(family)
    before = await pair.make()
    recording = Recording(stop_after=2, status=status)
    with pytest.raises(JobStopped) as raised:
        await pair.make(recording, num_images_per_prompt=2)
    assert raised.value.status is status
    assert [step for step, _ in recording.steps] == [1, 2]
    assert files(await pair.make()) == files(before)


@dataclass
class Impatient(Recording):
    """Is cancelled when it is asked for the second time."""

    asked: int = 0

    def stop_requested(self) -> Status | None:
        self.asked += 1
        return Status.CANCELLED if self.asked > 1 else None


async def test_a_job_that_waits_for_the_device_is_alive_and_stops_without_it(serve: Serve) -> None:
    pair = await serve("sd")
    hold = threading.Event()
    running = asyncio.create_task(pair.plain.make(Recording(hold=hold), num_inference_steps=2))
    waiting = Impatient()
    try:
        with pytest.raises(JobStopped):
            await asyncio.wait_for(pair.make(waiting), 60)
        assert waiting.asked == 2
        assert not running.done()
    finally:
        hold.set()
    await running
    await pair.make()


@pytest.mark.parametrize("previews", [1, 2])
async def test_as_many_jpeg_previews_as_asked_come_on_the_way(
    serve: Serve, family: str, previews: int
) -> None:
    pair = await serve(family)
    plain = await pair.make(image=photo(96, 64))
    result = await pair.make(image=photo(96, 64), previews=previews)
    assert len(pair.seen.previews) == previews
    assert result.warnings == []
    for _, data, media_type in pair.seen.previews:
        assert media_type == "image/jpeg"
        with Image.open(io.BytesIO(data)) as opened:
            assert opened.width > opened.height
    assert files(result) == files(plain)


async def test_previews_are_counted_by_the_steps_that_are_run(serve: Serve) -> None:
    result = await (await serve("sd")).make(num_inference_steps=4, strength=0.5, previews=3)
    assert result.warnings == ["previews: 2 inference steps give fewer than 3 previews"]


async def test_every_announced_scheduler_works_and_reports_each_step(
    serve: Serve, family: str
) -> None:
    pair = await serve(family)
    announced = pair.image.models()[0].schedulers
    seen = {}
    for name in announced:
        result = await pair.make(scheduler=name, num_inference_steps=6, strength=0.5, previews=2)
        assert [step for step, _ in pair.seen.steps] == [1, 2, 3], name
        assert len(pair.seen.previews) == 2, name
        seen[name] = pictures(result)
    if family == "sd":
        assert len(announced) > 5
        assert seen["DDIMScheduler"] != seen["EulerAncestralDiscreteScheduler"]


async def test_the_scale_of_a_lora_counts_and_zero_is_none(serve: Serve) -> None:
    pair = await serve("sd")
    plain = await pair.make()
    full = await pair.make(loras=[{"name": "noise", "scale": 1.0}])
    none = await pair.make(loras=[{"name": "noise", "scale": 0.0}])
    assert pictures(full) != pictures(plain) == pictures(none)
    text, _ = await pair.plain.make(loras=[{"name": "noise"}])
    again = await pair.make(loras=[{"name": "noise", "scale": 1.0}])
    assert files(again) == files(full)
    assert text.status is Status.SUCCEEDED


@pytest.fixture
async def scarce(serve: Serve) -> Pair:
    """A pair that remembers nothing of earlier tests."""
    pair = await serve("sd")
    pair.image._engine._ladder = MemoryLadder()
    return pair


async def test_a_picture_without_memory_to_be_encoded_is_encoded_in_tiles(scarce: Pair) -> None:
    plain, _ = await scarce.plain.make(width=320, height=320)
    with memory_for(scarce.pipeline.vae.encoder, 256) as sides:
        result = await scarce.make(image=photo(320, 320))
        assert result.identity is Identity.APPROXIMATE
        assert result.warnings == [WITH_TILES]
        assert sides[0] == 320
        assert max(sides[1:]) <= 256
        text, _ = await scarce.plain.make(width=320, height=320)
    assert (text.identity, files(text)) == (Identity.EXACT, files(plain))


@pytest.mark.parametrize("failures", [1, 2])
async def test_a_denoising_without_memory_is_repeated_with_offload_and_both_are_whole_again(
    scarce: Pair, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    offloads = (Measure.MODEL_OFFLOAD, Measure.SEQUENTIAL_OFFLOAD)
    traits, key = scarce.image._engine._traits, f"image2image:{scarce.name}"
    monkeypatch.setitem(traits, key, replace(traits[key], measures=frozenset(offloads)))
    monkeypatch.setattr(
        diffusers.DiffusionPipeline, "enable_sequential_cpu_offload", offload_layers_to_cpu
    )
    fields = {"loras": [{"name": "noise", "scale": 1.0}], "strength": 0.7, "strict": True}
    text, _ = await scarce.plain.make()
    plain = await scarce.make(**fields)
    with no_memory_from_call(scarce.pipeline.unet.mid_block, 1, failures):
        result = await scarce.make(**fields)
    assert (result.identity, files(result)) == (Identity.EXACT, files(plain))
    assert result.warnings == [
        f"memory: made with {offloads[failures - 1]}, since the plain way ran out of memory"
    ]
    after, _ = await scarce.plain.make()
    assert (after.warnings, files(after)) == ([], files(text))


async def test_a_strict_job_without_memory_fails_rather_than_being_less_exact(scarce: Pair) -> None:
    with (
        memory_for(scarce.pipeline.vae.encoder, 256),
        pytest.raises(OutOfMemory, match="320x320"),
    ):
        await scarce.make(image=photo(320, 320), strict=True)


def of_another_class(checkpoint: Path, folder: Path, family: str) -> Path:
    """A checkpoint that says to be of another family."""
    shutil.copytree(checkpoint, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": family}))
    return folder


async def test_a_default_model_without_an_image_pipeline_is_one_clear_line(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = of_another_class(checkpoint("sd"), tmp_path / "sana", "SanaPipeline")
    component = Image2ImageComponent(settings(folder))
    with pytest.raises(SetupError) as raised:
        await component.load(lambda _: None)
    await component.close()
    assert str(raised.value) == (
        "sana (SanaPipeline) has no image2image pipeline; set NODE_MODEL to one that has, or serve "
        "another component"
    )


async def test_a_further_model_without_an_image_pipeline_is_not_offered(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = of_another_class(checkpoint("sd"), tmp_path / "sana", "SanaPipeline")
    component = Image2ImageComponent(settings(checkpoint("sd"), models=[str(folder)]))
    assert [info.id for info in component.models()] == ["sd", "sana"]
    await component.load(lambda _: None)
    assert [info.id for info in component.models()] == ["sd"]
    with pytest.raises(ModelNotAvailable) as raised:
        component.admit(Image2ImageRequest(prompt="a", image=photo(), model="sana"))
    assert raised.value.detail == (
        "model: sana (SanaPipeline) has no image2image pipeline; this node has sd"
    )
    await component.close()


async def test_it_works_alone(checkpoint: Callable[[str], Path]) -> None:
    component = Image2ImageComponent(settings(checkpoint("sd")))
    assert not component.health().healthy
    states: list[Any] = []
    await component.load(states.append)
    assert [state.stage for state in states][-2:] == ["loading", "warming_up"]
    assert component.health() == Health(healthy=True)
    (info,) = component.models()
    assert (info.id, info.warm, info.default) == ("sd", True, True)
    request = Image2ImageRequest(prompt="a horse", image=photo(), num_inference_steps=2, strength=1)
    result = await component.invoke(request, Recording())
    assert result.status is Status.SUCCEEDED
    await component.close()


async def test_one_that_closes_leaves_the_other_at_work(checkpoint: Callable[[str], Path]) -> None:
    pair = await Pair(checkpoint("sd")).load()
    before = await pair.make()
    await pair.text.close()
    await pair.text.close()
    assert files(await pair.make()) == files(before)
    engine = pair.image._engine
    await pair.image.close()
    assert engine._pipelines == {}


async def test_a_fault_of_the_device_makes_both_unhealthy(
    checkpoint: Callable[[str], Path],
) -> None:
    pair = await Pair(checkpoint("sd")).load()
    fault = torch.AcceleratorError("CUDA error: device-side assert triggered")
    with once(pair.denoiser, fault), pytest.raises(InternalError):
        await pair.make()
    assert "cpu failed" in pair.image.health().detail
    assert "cpu failed" in pair.text.health().detail
    await pair.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shipped() -> AsyncIterator[Pair]:
    """Both components with the model of the package."""
    pair = await Pair(SHIPPED_FOLDER, dtype="auto", max_pixels=128, max_inference_steps=16).load()
    yield pair
    await pair.close()


def drawn(values: np.ndarray) -> np.ndarray:
    """Where a picture is not white."""
    return values.astype(int).min(axis=2) < 200


async def test_the_shipped_model_paints_a_red_car_blue_and_leaves_it_where_it_is(
    shipped: Pair,
) -> None:
    red = await shipped.text.invoke(Text2ImageRequest(prompt="a red car", seed=3), Recording())
    assert isinstance(red, Text2ImageResult)
    before = pixels(files(red)[0])
    wanted = {"prompt": "a blue car", "image": red.images[0], "num_inference_steps": None}
    after = pixels(files(await shipped.make(**wanted, strength=0.4))[0])
    assert before.shape == after.shape == (128, 128, 3)
    for values, colour, other in ((before, 0, 2), (after, 2, 0)):
        inked = values[drawn(values)].mean(axis=0)
        assert inked[colour] > inked[other] + 30
    both, either = drawn(before) & drawn(after), drawn(before) | drawn(after)
    assert both.sum() / either.sum() > 0.8


async def test_the_greater_the_strength_the_less_is_left_of_the_picture(shipped: Pair) -> None:
    car = await shipped.text.invoke(Text2ImageRequest(prompt="a red car", seed=3), Recording())
    assert isinstance(car, Text2ImageResult)
    before = pixels(files(car)[0]).astype(float)
    distances = []
    for strength in (0.1, 0.2, 0.4, 1.0):
        made = await shipped.make(
            prompt="an astronaut riding a green horse",
            image=car.images[0],
            num_inference_steps=16,
            strength=strength,
        )
        distances.append(np.abs(pixels(files(made)[0]) - before).mean())
    assert distances == sorted(distances)
    assert distances[-1] > 2 * distances[0] > 0
