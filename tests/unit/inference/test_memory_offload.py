"""Offloaded pipelines compute the same, and are left as they were; the device is the CPU here."""

from typing import Any

import diffusers
import pytest
import torch

from node.inference.memory_measures import taken
from node.inference.memory_plan import Measure, MemoryPlan
from tests.checkpoints import FAMILIES
from tests.scarcity import offload_layers_to_cpu

# Of torch and Diffusers among themselves: at import, and in schedulers with NumPy 2.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
]

OFFLOADS = [Measure.MODEL_OFFLOAD, Measure.SEQUENTIAL_OFFLOAD]


@pytest.fixture(scope="module", params=FAMILIES)
def pipeline(request: pytest.FixtureRequest) -> Any:
    """A pipeline whose convolutions are laid out as the engine does it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = FAMILIES[request.param]()
    made.set_progress_bar_config(disable=True)
    made.vae.to(memory_format=torch.channels_last)
    return made


@pytest.fixture(autouse=True)
def offload_without_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        diffusers.DiffusionPipeline, "enable_sequential_cpu_offload", offload_layers_to_cpu
    )


def picture(pipeline: Any) -> Any:
    generator = torch.Generator("cpu").manual_seed(7)
    made = pipeline(
        "a horse", width=64, height=64, num_inference_steps=2, generator=generator, output_type="np"
    )
    return made.images[0].tobytes()


def weights(pipeline: Any) -> dict[tuple[str, str], tuple[Any, ...]]:
    return {
        (name, key): (weight.device, weight.dtype, weight.stride(), weight.double().sum().item())
        for name, module in pipeline.components.items()
        if isinstance(module, torch.nn.Module)
        for key, weight in module.state_dict().items()
    }


def hooks(pipeline: Any) -> list[str]:
    return [
        name
        for name, module in pipeline.components.items()
        if isinstance(module, torch.nn.Module)
        and any(hasattr(each, "_hf_hook") for each in module.modules())
    ]


@pytest.mark.parametrize("measure", OFFLOADS)
def test_an_offloaded_pipeline_makes_the_same_bytes_and_is_left_as_it_was(
    pipeline: Any, measure: Measure
) -> None:
    expected, before = picture(pipeline), weights(pipeline)
    with taken(pipeline, MemoryPlan(frozenset({measure})), "cpu", width=64, height=64):
        assert "vae" in hooks(pipeline)
        assert [picture(pipeline), picture(pipeline)] == [expected] * 2
    assert hooks(pipeline) == []
    assert weights(pipeline) == before
    assert picture(pipeline) == expected


@pytest.mark.parametrize("measure", OFFLOADS)
@pytest.mark.parametrize("part", ["text_encoder", "denoiser", "vae.decoder"])
def test_an_offloaded_pipeline_that_fails_is_left_as_it_was(
    pipeline: Any, measure: Measure, part: str
) -> None:
    expected, before = picture(pipeline), weights(pipeline)
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    module = {
        "text_encoder": pipeline.text_encoder,
        "denoiser": denoiser,
        "vae.decoder": pipeline.vae.decoder,
    }[part]
    # In the middle of it: then weights of some layers are in place and of others are not.
    *_, inner = (
        each
        for each in module.modules()
        if isinstance(each, torch.nn.LayerNorm | torch.nn.Conv2d | torch.nn.Linear)
    )

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    handle = inner.register_forward_hook(fail)
    plan = MemoryPlan(frozenset({measure}))
    with (
        pytest.raises(torch.OutOfMemoryError),
        taken(pipeline, plan, "cpu", width=64, height=64),
    ):
        picture(pipeline)
    handle.remove()
    assert hooks(pipeline) == []
    assert weights(pipeline) == before
    assert picture(pipeline) == expected


class Elsewhere:
    """A pipeline whose device has no memory for its weights."""

    def __init__(self, error: Exception) -> None:
        self.components = {"unet": torch.nn.Linear(2, 2)}
        self.error = error
        self.moves: list[str] = []

    def enable_model_cpu_offload(self, device: str) -> None:
        pass

    def remove_all_hooks(self) -> None:
        pass

    def to(self, device: str) -> None:
        self.moves.append(device)
        raise self.error


OFFLOAD = MemoryPlan(frozenset({Measure.MODEL_OFFLOAD}))


def test_weights_that_cannot_move_back_now_are_moved_by_the_next_job() -> None:
    pipeline = Elsewhere(torch.OutOfMemoryError("CUDA out of memory"))
    with taken(pipeline, OFFLOAD, "cuda", width=64, height=64):
        pass
    with (
        pytest.raises(torch.OutOfMemoryError),
        taken(pipeline, MemoryPlan(), "cuda", width=64, height=64),
    ):
        raise AssertionError("made with weights that are elsewhere")
    assert pipeline.moves == ["cuda", "cuda"]


def test_another_failure_to_move_weights_back_is_told() -> None:
    pipeline = Elsewhere(RuntimeError("device lost"))
    with (
        pytest.raises(RuntimeError, match="device lost"),
        taken(pipeline, OFFLOAD, "cuda", width=64, height=64),
    ):
        pass
