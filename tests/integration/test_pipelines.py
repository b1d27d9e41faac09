"""The text2image component with real Diffusers pipelines: four families with random weights."""

import asyncio
import hashlib
import io
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from contracts.message import MAX_SEED
from contracts.result import Status
from contracts.text2image import Identity, Text2ImageRequest
from node.component import Health
from node.errors import (
    GenerationFailed,
    InternalError,
    InvalidRequest,
    JobStopped,
    ModelNotAvailable,
    OutOfMemory,
    SetupError,
)
from node.inference.component import Text2ImageComponent
from tests.checkpoints import FAMILIES, build, build_lora
from tests.served import (
    STEPS,
    Recording,
    Serve,
    Served,
    come_up,
    file_of,
    files,
    once,
    pictures,
    settings,
    small,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # Of torch and Diffusers among themselves: at import, and in schedulers with NumPy 2.
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
]

LONG_PROMPT = "horse " * 60


@contextmanager
def not_a_number(module: torch.nn.Module) -> Iterator[None]:
    """The module gives NaN."""
    handle = module.register_forward_hook(lambda *call: call[-1] * float("nan"))
    try:
        yield
    finally:
        handle.remove()


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA that fits `sd`."""
    return build_lora(tmp_path_factory.mktemp("loras"), "noise")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def serve(checkpoint: Callable[[str], Path], lora: Path) -> AsyncIterator[Serve]:
    """Bring up a component with the model of a family, at most once."""
    served: dict[str, Served] = {}

    async def get(family: str) -> Served:
        if family not in served:
            given = settings(checkpoint(family), loras=[f"noise={lora}"])
            served[family] = await come_up(Text2ImageComponent(given))
        return served[family]

    yield get
    for each in served.values():
        await each.component.close()


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


async def test_progress_of_loading_is_told_and_health_follows(serve: Serve, family: str) -> None:
    served = await serve(family)
    assert [state.stage for state in served.states][-2:] == ["loading", "warming_up"]
    assert {state.model for state in served.states} == {family}
    assert not served.health_before.healthy
    assert served.health_before.detail
    assert served.component.health() == Health(healthy=True)


async def test_a_loaded_model_is_described(serve: Serve, family: str) -> None:
    served = await serve(family)
    (info,) = served.component.models()
    assert (info.id, info.warm, info.default) == (family, True, True)
    assert (info.native_width, info.native_height) == (128, 128)
    assert info.limits.size_granularity == {"sd": 8, "sdxl": 8, "sd3": 16, "flux": 16}[family]
    assert info.family == type(served.pipeline).__name__
    assert type(served.pipeline.scheduler).__name__ in info.schedulers
    device = served.component.device()
    assert device is not None
    assert (device.device, device.dtype) == ("cpu", "float32")
    assert (device.memory_free_bytes or 0) > 0


async def test_the_facts_of_the_folder_agree_with_the_pipeline(serve: Serve, family: str) -> None:
    (offer,) = (await serve(family)).component._catalogue.offers
    assert offer.facts is not None
    assert offer.traits is not None
    assert offer.facts.family == offer.traits.family
    assert offer.facts.granularity == offer.traits.granularity
    assert offer.facts.native_size == (offer.traits.native_width, offer.traits.native_height)


async def test_a_job_gives_a_png_of_the_asked_size(serve: Serve, family: str) -> None:
    result, recording = await (await serve(family)).make(width=96, height=64)
    (image,) = result.images
    data = file_of(image)
    with Image.open(io.BytesIO(data)) as opened:
        assert (opened.format, opened.size, opened.mode) == ("PNG", (96, 64), "RGB")
    assert (image.media_type, image.width, image.height) == ("image/png", 96, 64)
    assert image.sha256 == hashlib.sha256(data).hexdigest()
    assert result.status is Status.SUCCEEDED
    assert result.identity is Identity.EXACT
    assert result.warnings == []
    assert recording.images == result.images


async def test_steps_are_reported_from_1_to_n(serve: Serve, family: str) -> None:
    _, recording = await (await serve(family)).make(num_images_per_prompt=2)
    assert recording.steps == [(step, 2 * STEPS) for step in range(1, 2 * STEPS + 1)]


async def test_the_native_size_and_steps_are_the_defaults(serve: Serve, family: str) -> None:
    served = await serve(family)
    result, recording = await served.make(
        width=None, height=None, num_inference_steps=None, guidance_scale=None
    )
    assert (result.images[0].width, result.images[0].height) == (128, 128)
    assert len(recording.steps) == 20
    parameters = result.parameters
    assert parameters is not None
    assert (parameters.width, parameters.height, parameters.num_inference_steps) == (128, 128, 20)
    assert parameters.guidance_scale is not None
    assert parameters.scheduler == type(served.pipeline.scheduler).__name__


async def test_the_same_seed_gives_the_same_bytes_and_another_others(
    serve: Serve, family: str
) -> None:
    served = await serve(family)
    first, _ = await served.make(seed=7)
    again, _ = await served.make(Recording("another-job"), seed=7)
    other, _ = await served.make(seed=8)
    assert files(first) == files(again)
    assert pictures(first) != pictures(other)


async def test_many_images_equal_single_ones_with_seeds_that_count_up(
    serve: Serve, family: str
) -> None:
    served = await serve(family)
    many, _ = await served.make(num_images_per_prompt=3, seed=40)
    assert [(image.index, image.seed) for image in many.images] == [(0, 40), (1, 41), (2, 42)]
    singles = [files((await served.make(seed=seed))[0])[0] for seed in (40, 41, 42)]
    assert files(many) == singles
    assert len(set(singles)) == 3


async def test_a_list_of_seeds_gives_each_image_its_own(serve: Serve) -> None:
    served = await serve("sd")
    many, _ = await served.make(num_images_per_prompt=2, seed=[9, MAX_SEED])
    singles = [files((await served.make(seed=seed))[0])[0] for seed in (9, MAX_SEED)]
    assert files(many) == singles


async def test_without_a_seed_the_picture_follows_from_the_job_id(
    serve: Serve, family: str
) -> None:
    served = await serve(family)
    first, _ = await served.make(Recording("job-1"), seed=None)
    again, _ = await served.make(Recording("job-1"), seed=None)
    other, _ = await served.make(Recording("job-2"), seed=None)
    assert files(first) == files(again)
    assert pictures(first) != pictures(other)
    digest = hashlib.sha256(b"job-1").digest()
    assert first.images[0].seed == int.from_bytes(digest[:8], "big") % 2**63
    assert first.parameters is not None
    repeated, _ = await served.make(seed=first.images[0].seed)
    assert files(repeated) == files(first)


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.EXPIRED])
async def test_a_stopped_job_takes_no_further_step_and_leaves_no_trace(
    serve: Serve, family: str, status: Status
) -> None:
    served = await serve(family)
    before, _ = await served.make()
    recording = Recording(stop_after=2, status=status)
    with pytest.raises(JobStopped) as raised:
        await served.make(recording, num_images_per_prompt=2)
    assert raised.value.status is status
    assert [step for step, _ in recording.steps] == [1, 2]
    assert recording.images == []
    after, _ = await served.make()
    assert files(after) == files(before)


async def test_a_job_that_is_stopped_already_takes_no_step(serve: Serve) -> None:
    recording = Recording(stop_after=0)
    with pytest.raises(JobStopped):
        await (await serve("sd")).make(recording)
    assert recording.steps == []


async def test_a_job_that_is_stopped_between_images_begins_no_other(serve: Serve) -> None:
    recording = Recording(stop_after=STEPS)
    with pytest.raises(JobStopped):
        await (await serve("sd")).make(recording, num_images_per_prompt=2)
    assert len(recording.steps) == STEPS


async def test_a_job_that_nobody_awaits_any_more_stops(serve: Serve) -> None:
    served = await serve("sd")
    before, _ = await served.make()
    hold = threading.Event()
    recording = Recording(hold=hold)
    running = asyncio.create_task(served.make(recording))
    await asyncio.wait_for(recording.began.wait(), 60)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    hold.set()
    after, _ = await served.make()
    assert files(after) == files(before)
    assert recording.steps == [(1, STEPS)]


async def test_jobs_at_the_same_time_have_the_bytes_of_jobs_alone(serve: Serve) -> None:
    served = await serve("sd")
    alone = [files((await served.make(seed=seed))[0]) for seed in (1, 2, 3)]
    together = await asyncio.gather(*(served.make(seed=seed) for seed in (1, 2, 3)))
    assert [files(result) for result, _ in together] == alone


CHANGES: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": "a house"},
    "negative_prompt": {"negative_prompt": "blurry, low quality"},
    "width": {"width": 96},
    "height": {"height": 96},
    "num_inference_steps": {"num_inference_steps": STEPS + 1},
    "guidance_scale": {"guidance_scale": 2.0},
    "num_images_per_prompt": {"num_images_per_prompt": 2},
    "seed": {"seed": [8]},
    "scheduler": {"scheduler": "DDIMScheduler"},
    "loras": {"loras": [{"name": "noise", "scale": 1.0}]},
}


@pytest.mark.parametrize("name", CHANGES)
async def test_every_field_that_shapes_a_picture_has_an_effect_or_is_answered(
    serve: Serve, family: str, name: str
) -> None:
    served = await serve(family)
    plain, _ = await served.make()
    try:
        changed, _ = await served.make(**CHANGES[name])
    except InvalidRequest as refusal:
        assert refusal.detail.startswith(name)  # noqa: PT017 - a refusal is one of three answers
        assert name in ("scheduler", "loras")
        assert (family, name) != ("sd", "loras")
    else:
        said = [warning for warning in changed.warnings if warning.startswith(name)]
        assert pictures(changed) != pictures(plain) or said
    again, _ = await served.make()
    assert files(again) == files(plain)


ANSWERED_ELSEWHERE = {
    "model",
    "output_format",
    "output_quality",
    "response",
    "previews",
    "strict",
    "metadata",
}


async def test_no_request_field_is_forgotten() -> None:
    assert set(CHANGES) | ANSWERED_ELSEWHERE == set(Text2ImageRequest.model_fields)


async def test_a_model_that_is_not_offered_is_not_available(serve: Serve) -> None:
    served = await serve("sd")
    with pytest.raises(ModelNotAvailable, match=r"other/model.*sd"):
        await served.make(model="other/model")
    named, _ = await served.make(model="sd")
    assert named.model == "sd"


@pytest.mark.parametrize(("name", "kind"), [("jpeg", "JPEG"), ("webp", "WEBP")])
async def test_output_format_and_quality_are_honoured(serve: Serve, name: str, kind: str) -> None:
    served = await serve("sd")
    low, _ = await served.make(output_format=name, output_quality=10)
    high, _ = await served.make(output_format=name, output_quality=95)
    usual, _ = await served.make(output_format=name)
    for result in (low, high, usual):
        assert result.images[0].media_type == f"image/{name}"
        with Image.open(io.BytesIO(files(result)[0])) as opened:
            assert (opened.format, opened.size) == (kind, (64, 64))
    assert len(files(low)[0]) < len(files(high)[0])
    assert usual.parameters is not None
    assert usual.parameters.output_quality == 90


@pytest.mark.parametrize("previews", [1, 2, STEPS])
async def test_as_many_jpeg_previews_as_asked_come_on_the_way(
    serve: Serve, family: str, previews: int
) -> None:
    served = await serve(family)
    plain, _ = await served.make(width=96)
    result, recording = await served.make(width=96, previews=previews)
    assert len(recording.previews) == previews
    assert result.warnings == []
    for step, data, media_type in recording.previews:
        assert media_type == "image/jpeg"
        assert 1 <= step <= STEPS
        with Image.open(io.BytesIO(data)) as opened:
            assert opened.format == "JPEG"
            assert opened.width > opened.height
    assert files(result) == files(plain)


async def test_more_previews_than_steps_are_warned_of(serve: Serve) -> None:
    result, recording = await (await serve("sd")).make(previews=STEPS + 2)
    assert len(recording.previews) == STEPS
    assert any("previews" in warning for warning in result.warnings)


async def test_strict_and_response_and_metadata_are_echoed(serve: Serve) -> None:
    served = await serve("sd")
    plain, _ = await served.make()
    metadata = {"trace": "a1", "user": "me"}
    result, _ = await served.make(strict=True, response="reference", metadata=metadata)
    assert result.metadata == metadata
    assert result.identity is Identity.EXACT
    assert result.parameters is not None
    assert (result.parameters.strict, result.parameters.response) == (True, "reference")
    assert files(result) == files(plain)


async def test_effective_parameters_make_the_same_picture_again(serve: Serve) -> None:
    served = await serve("sd")
    first, _ = await served.make(Recording("job-9"), seed=None, guidance_scale=None)
    assert first.parameters is not None
    repeated = first.parameters.model_dump(mode="json") | {"output_quality": None}
    again, _ = await served.make(**repeated)
    assert files(again) == files(first)


@pytest.mark.parametrize("name", ["width", "height"])
async def test_a_size_off_the_grid_is_refused_before_anything_runs(
    serve: Serve, family: str, name: str
) -> None:
    served = await serve(family)
    if served.component.models()[0].limits.size_granularity == 8:
        result, _ = await served.make(**{name: 72})
        assert getattr(result.images[0], name) == 72
        return
    with pytest.raises(InvalidRequest, match=rf"{name}: 72 is not a multiple of 16"):
        served.component.admit(small(**{name: 72}))
    recording = Recording()
    with pytest.raises(InvalidRequest):
        await served.component.invoke(small(**{name: 72}), recording)
    assert recording.steps == []


async def test_a_prompt_that_is_read_in_part_is_warned_of(serve: Serve, family: str) -> None:
    served = await serve(family)
    result, _ = await served.make(prompt=LONG_PROMPT)
    assert any(warning.startswith("prompt: CLIPTokenizer") for warning in result.warnings)
    short, _ = await served.make()
    assert short.warnings == []


async def test_a_negative_prompt_that_is_read_in_part_is_warned_of(serve: Serve) -> None:
    result, _ = await (await serve("sd")).make(negative_prompt=LONG_PROMPT, guidance_scale=5.0)
    assert any(warning.startswith("negative_prompt: CLIP") for warning in result.warnings)


async def test_every_announced_scheduler_works_and_reports_each_step(
    serve: Serve, family: str
) -> None:
    served = await serve(family)
    announced = served.component.models()[0].schedulers
    seen = {}
    for name in announced:
        result, recording = await served.make(scheduler=name, num_inference_steps=4, previews=2)
        assert [step for step, _ in recording.steps] == [1, 2, 3, 4], name
        assert len(recording.previews) == 2, name
        seen[name] = pictures(result)
    if family == "sd":
        assert len(announced) > 5
        assert seen["DDIMScheduler"] != seen["EulerAncestralDiscreteScheduler"]


async def test_one_step_is_enough_for_every_family(serve: Serve, family: str) -> None:
    result, recording = await (await serve(family)).make(num_inference_steps=1)
    assert recording.steps == [(1, 1)]
    assert result.status is Status.SUCCEEDED


async def test_guidance_of_zero_is_taken(serve: Serve, family: str) -> None:
    result, _ = await (await serve(family)).make(guidance_scale=0.0)
    assert result.parameters is not None
    assert result.parameters.guidance_scale == 0.0


async def test_the_scale_of_a_lora_counts_and_zero_is_none(serve: Serve) -> None:
    served = await serve("sd")
    plain, _ = await served.make()
    half, _ = await served.make(loras=[{"name": "noise", "scale": 0.5}])
    full, _ = await served.make(loras=[{"name": "noise", "scale": 1.0}])
    again, _ = await served.make(loras=[{"name": "noise", "scale": 1.0}])
    none, _ = await served.make(loras=[{"name": "noise", "scale": 0.0}])
    assert len({pictures(result)[0] for result in (plain, half, full)}) == 3
    assert files(full) == files(again)
    assert pictures(none) == pictures(plain)


async def test_a_lora_of_another_family_is_refused_and_leaves_no_trace(serve: Serve) -> None:
    served = await serve("sdxl")
    before, _ = await served.make()
    with pytest.raises(InvalidRequest, match="loras: 'noise' does not fit"):
        await served.make(loras=[{"name": "noise"}])
    after, _ = await served.make()
    assert files(after) == files(before)


async def test_an_unknown_lora_or_scheduler_is_refused_with_what_there_is(serve: Serve) -> None:
    served = await serve("sd")
    with pytest.raises(InvalidRequest, match=r"loras: .*noise"):
        await served.make(loras=[{"name": "none"}])
    with pytest.raises(InvalidRequest, match=r"scheduler: .*DDIMScheduler"):
        await served.make(scheduler="NoScheduler")


async def test_without_memory_the_job_fails_and_the_next_one_works(
    serve: Serve, family: str
) -> None:
    served = await serve(family)
    before, _ = await served.make()
    with (
        once(served.denoiser, torch.OutOfMemoryError("CUDA out of memory")),
        pytest.raises(OutOfMemory, match="64x64"),
    ):
        await served.make()
    after, _ = await served.make()
    assert files(after) == files(before)


async def test_a_bug_in_the_pipeline_is_internal_and_the_next_job_works(serve: Serve) -> None:
    served = await serve("sd")
    before, _ = await served.make()
    with once(served.denoiser, RuntimeError("boom")), pytest.raises(InternalError, match="boom"):
        await served.make(scheduler="DDIMScheduler", loras=[{"name": "noise"}])
    after, _ = await served.make()
    assert files(after) == files(before)


async def test_a_picture_of_nan_fails_and_the_next_job_works(serve: Serve, family: str) -> None:
    served = await serve(family)
    before, _ = await served.make()
    with (
        not_a_number(served.pipeline.vae.decoder),
        pytest.raises(GenerationFailed, match="NaN"),
    ):
        await served.make()
    after, _ = await served.make()
    assert files(after) == files(before)


async def test_a_preview_of_nan_is_no_error_of_its_own(serve: Serve) -> None:
    served = await serve("sd")
    recording = Recording()
    with (
        not_a_number(served.denoiser.conv_in),
        pytest.raises(GenerationFailed, match="the picture has NaN"),
    ):
        await served.make(recording, previews=1)
    assert len(recording.previews) == 1


async def test_timings_say_where_the_time_went(serve: Serve, family: str) -> None:
    result, _ = await (await serve(family)).make()
    assert result.timings.denoise_seconds > 0
    assert result.timings.encode_seconds > 0
    assert result.timings.decode_seconds > 0
    assert result.timings.load_seconds == 0


async def test_a_model_of_a_further_setting_is_loaded_on_its_first_use(
    checkpoint: Callable[[str], Path],
) -> None:
    sd, sdxl = checkpoint("sd"), checkpoint("sdxl")
    served = await come_up(Text2ImageComponent(settings(sd, models=[f"second={sdxl}"])))
    try:
        assert [info.warm for info in served.component.models()] == [True, False]
        first, _ = await served.make(model="second")
        again, _ = await served.make(model="second")
        assert (first.model, first.status) == ("second", Status.SUCCEEDED)
        assert first.timings.load_seconds > 0
        assert again.timings.load_seconds == 0
        assert files(first) == files(again)
        assert [info.warm for info in served.component.models()] == [True, True]
    finally:
        await served.component.close()


async def test_closing_stops_the_job_that_runs(checkpoint: Callable[[str], Path]) -> None:
    served = await come_up(Text2ImageComponent(settings(checkpoint("sd"))))
    hold = threading.Event()
    recording = Recording(hold=hold)
    running = asyncio.create_task(served.make(recording))
    await asyncio.wait_for(recording.began.wait(), 60)
    closing = asyncio.create_task(served.component.close())
    await asyncio.sleep(0)
    hold.set()
    with pytest.raises(JobStopped):
        await running
    await closing
    assert recording.steps == [(1, STEPS)]


async def test_a_checkpoint_that_makes_nan_fails_at_its_warm_up(tmp_path: Path) -> None:
    folder = build("sd", tmp_path / "broken")
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights = {name: torch.full_like(each, float("nan")) for name, each in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    component = Text2ImageComponent(settings(folder))
    with pytest.raises(SetupError, match="broken fails at its warm-up"):
        await component.load(lambda state: None)
    assert not component.health().healthy
    await component.close()


async def test_a_folder_without_a_model_is_one_clear_line(tmp_path: Path) -> None:
    component = Text2ImageComponent(settings(tmp_path))
    with pytest.raises(SetupError, match="is not a Diffusers model") as raised:
        await component.load(lambda state: None)
    assert "\n" not in str(raised.value)
    await component.close()
