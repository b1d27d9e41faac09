"""The prompt writer: free text becomes a prompt, with the shipped model and with others."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from contracts.discovery import LoadState
from contracts.prompt_writer import PromptWriterRequest, PromptWriterResult
from contracts.result import Status
from node.errors import GenerationFailed, InternalError, InvalidRequest, JobStopped, SetupError
from node.settings import Settings
from orchestrator_example.services.prompt_asking import Asking, tidy
from orchestrator_example.services.prompt_writer import PromptWriter
from tests.fake_hub import COMMIT, FakeHub
from tests.served import Recording

CHAT = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
REFUSES_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHAT
)


def byte_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A token for each byte, and an end."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate([*letters, "<end>"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")


def causal_checkpoint(folder: Path, template: str | None = None, context: int = 2048) -> Path:
    """A tiny Llama with random weights, that writes noise."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=257,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=context,
                eos_token_id=256,
                bos_token_id=None,
            )
        )
    # As publishers of chat models do: what is random by default must be the same here.
    model.generation_config.update(do_sample=True, temperature=0.7, top_p=0.8)
    model.save_pretrained(folder)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


async def loaded(**given: Any) -> PromptWriter:
    writer = PromptWriter(Settings(device="cpu", dtype="float32", **given))
    await writer.load(lambda state: None)
    return writer


async def written(
    writer: PromptWriter, text: str, invocation: Recording | None = None, **given: Any
) -> PromptWriterResult:
    request = PromptWriterRequest(text=text, **given)
    result = await writer.invoke(request, invocation or Recording())
    assert isinstance(result, PromptWriterResult)
    return result


@pytest.fixture
async def writer() -> AsyncIterator[PromptWriter]:
    """The shipped model."""
    writer = await loaded()
    yield writer
    await writer.close()


def test_importing_it_imports_no_torch() -> None:
    code = (
        "import sys, orchestrator_example.services.prompt_writer; "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


async def test_the_shipped_model_writes_in_the_words_of_the_picture_model(
    writer: PromptWriter,
) -> None:
    result = await written(
        writer, "A cosmonaut rides a lime-coloured stallion", metadata={"a": "b"}
    )
    assert result.text == "an astronaut riding a green horse"
    assert result.status is Status.SUCCEEDED
    assert (result.model, result.revision) == ("emoji-prompt-writer", None)
    assert (result.warnings, result.metadata) == ([], {"a": "b"})
    assert result.timings.denoise_seconds > 0


async def test_each_token_is_reported(writer: PromptWriter) -> None:
    invocation = Recording()
    await written(writer, "two kitties", invocation)
    assert [step for step, _ in invocation.steps] == list(range(1, len(invocation.steps) + 1))
    assert {total for _, total in invocation.steps} == {32}


async def test_a_request_bounds_the_tokens(writer: PromptWriter) -> None:
    invocation = Recording()
    result = await written(writer, "a cosmonaut on a pony", invocation, max_new_tokens=3)
    assert invocation.steps == [(1, 3), (2, 3), (3, 3)]
    assert result.text == "an astronaut riding"


async def test_a_text_longer_than_the_model_reads_is_cut_with_a_warning(
    writer: PromptWriter,
) -> None:
    result = await written(writer, "a red car " + "and more " * 400)
    assert str(result.text).startswith("a red car")
    (warning,) = result.warnings
    assert "longer than the model reads" in warning


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.EXPIRED])
async def test_a_job_stops_after_the_token_at_which_it_is_told_to(
    writer: PromptWriter, status: Status
) -> None:
    invocation = Recording(stop_after=2, status=status)
    with pytest.raises(JobStopped) as stopped:
        await written(writer, "a cosmonaut on a pony", invocation)
    assert stopped.value.status is status
    assert len(invocation.steps) == 2


async def test_a_job_that_was_told_to_stop_before_does_not_begin(writer: PromptWriter) -> None:
    invocation = Recording(stop_after=0)
    with pytest.raises(JobStopped):
        await written(writer, "a cosmonaut", invocation)
    assert invocation.steps == []


async def test_a_job_that_nobody_awaits_ends_between_two_tokens(tmp_path: Path) -> None:
    writer = await loaded(model=str(causal_checkpoint(tmp_path / "tiny", CHAT)))
    invocation = Recording(hold=threading.Event())
    job = asyncio.create_task(written(writer, "a horse", invocation, max_new_tokens=1000))
    await asyncio.wait_for(invocation.began.wait(), 20)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    invocation.hold.set()
    # The thread takes the next job only after the one before.
    await written(writer, "a dog", max_new_tokens=2)
    assert len(invocation.steps) == 1
    await writer.close()


async def test_it_is_healthy_from_its_first_prompt_to_its_end() -> None:
    writer = PromptWriter(Settings(device="cpu"))
    assert not writer.health().healthy
    with pytest.raises(InternalError, match="not loaded"):
        await written(writer, "a horse")
    states: list[LoadState] = []
    await writer.load(states.append)
    assert [state.stage for state in states] == ["loading", "warming_up"]
    assert writer.health().healthy
    device = writer.device()
    assert device is not None
    assert (device.device, device.dtype) == ("cpu", "float32")
    await writer.close()
    assert not writer.health().healthy


@pytest.mark.parametrize("template", [None, CHAT, REFUSES_SYSTEM])
async def test_any_causal_model_writes_the_same_each_time(
    tmp_path: Path, template: str | None
) -> None:
    writer = await loaded(model=str(causal_checkpoint(tmp_path / "tiny", template)))
    first, again = [await written(writer, "a horse", max_new_tokens=9) for _ in range(2)]
    assert first.text
    assert first.text == again.text
    assert first.model == "tiny"
    await writer.close()


async def test_a_chat_model_gets_the_instruction_and_the_text_in_its_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await _asked(causal_checkpoint(tmp_path / "tiny", CHAT), monkeypatch)
    assert asked.startswith("<system>You write prompts")
    assert asked.endswith("\n<user>a horse\n<assistant>")


async def test_a_template_without_system_messages_gets_the_instruction_from_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await _asked(causal_checkpoint(tmp_path / "tiny", REFUSES_SYSTEM), monkeypatch)
    assert asked.startswith("<user>You write prompts")
    assert asked.endswith("\n\na horse\n<assistant>")


async def test_a_model_without_a_template_gets_a_text_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await _asked(causal_checkpoint(tmp_path / "tiny"), monkeypatch)
    assert asked.startswith("You write prompts")
    assert asked.endswith("\n\nText: a horse\nPrompt:")


async def _asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read what the model gets for "a horse"."""
    writer = await loaded(model=str(folder))
    seen: list[str] = []
    generate = transformers.LlamaForCausalLM.generate

    def spy(model: Any, **given: Any) -> Any:
        seen.append(byte_tokenizer().decode(given["input_ids"][0]))
        return generate(model, **given)

    monkeypatch.setattr(transformers.LlamaForCausalLM, "generate", spy)
    await written(writer, "a horse", max_new_tokens=4)
    await writer.close()
    return seen[0]


async def test_a_causal_model_keeps_room_for_what_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = causal_checkpoint(tmp_path / "tiny", CHAT, context=400)
    writer = await loaded(model=str(folder))
    result = await written(writer, "horse " * 200, max_new_tokens=20)
    assert result.warnings == [
        "text: it is longer than the model reads; the prompt was written from its beginning"
    ]
    assert (await written(writer, "horse", max_new_tokens=20)).warnings == []
    with pytest.raises(InvalidRequest, match="max_new_tokens: 390 leaves no room"):
        await written(writer, "horse", max_new_tokens=390)
    await writer.close()


async def test_a_model_that_writes_nothing_fails_clearly(
    writer: PromptWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        transformers.T5ForConditionalGeneration,
        "generate",
        lambda model, **given: torch.tensor([[0, 1]]),
    )
    with pytest.raises(GenerationFailed, match="wrote nothing"):
        await written(writer, "a horse")


async def test_a_fault_of_the_model_may_be_retried_elsewhere(
    writer: PromptWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(model: Any, **given: Any) -> Any:
        raise RuntimeError("the device fell off")

    monkeypatch.setattr(transformers.T5ForConditionalGeneration, "generate", break_down)
    with pytest.raises(InternalError, match="the device fell off"):
        await written(writer, "a horse")


async def test_a_model_that_writes_no_text_is_refused_at_start(tmp_path: Path) -> None:
    shipped = Path(sys.modules["node"].__path__[0]) / "inference" / "shipped" / "emoji-captioner"
    byte_tokenizer().save_pretrained(tmp_path)
    for file in shipped.glob("*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(SetupError, match="writes no text: it is a ResNetForImageClassification"):
        await loaded(model=f"mine={tmp_path}")


async def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="mine cannot be loaded from") as refused:
        await loaded(model=f"mine={tmp_path}")
    assert "\n" not in str(refused.value)


async def test_pickled_weights_are_not_loaded(tmp_path: Path) -> None:
    folder = causal_checkpoint(tmp_path / "tiny", CHAT)
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(SetupError, match="safetensors"):
        await loaded(model=str(folder))


async def test_a_hub_model_that_is_not_here_is_named_when_offline(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="someone/else is not complete on this machine"):
        await loaded(model="someone/else", offline=True, cache_dir=tmp_path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with one chat model, `someone/else`, and a pickle of it."""
    folder = causal_checkpoint(tmp_path / "tiny", CHAT)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with FakeHub({"someone/else": files | {"pytorch_model.bin": b"a pickle"}}).running() as hub:
        hub.become_default(monkeypatch)
        yield hub


async def test_a_model_comes_from_the_hub_with_its_weights_in_the_root(
    hub: FakeHub, tmp_path: Path
) -> None:
    states: list[LoadState] = []
    writer = PromptWriter(
        Settings(device="cpu", model="someone/else", cache_dir=tmp_path / "cache")
    )
    await writer.load(states.append)
    stages = dict.fromkeys(state.stage for state in states)
    assert list(stages) == ["downloading", "loading", "warming_up"]
    downloaded = next(state for state in reversed(states) if state.stage == "downloading")
    assert (downloaded.bytes_done or 0) > 10_000
    assert (writer.model_name, writer.revision) == ("someone/else", COMMIT)
    assert not [path for path in hub.asked if path.endswith(".bin")]
    await writer.close()


async def test_a_writer_that_is_closed_does_not_go_on_downloading(
    hub: FakeHub, tmp_path: Path
) -> None:
    writer = PromptWriter(
        Settings(device="cpu", model="someone/else", cache_dir=tmp_path / "cache")
    )
    loop = asyncio.get_running_loop()

    def close(state: LoadState) -> None:
        assert state.stage == "downloading"
        asyncio.run_coroutine_threadsafe(writer.close(), loop).result(10)

    with pytest.raises(SetupError, match="was stopped while it loaded"):
        await asyncio.wait_for(writer.load(close), 60)
    assert not writer.health().healthy


async def test_a_model_that_fails_its_warm_up_is_refused_at_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def break_down(model: Any, **given: Any) -> Any:
        raise RuntimeError("the device fell off")

    monkeypatch.setattr(transformers.T5ForConditionalGeneration, "generate", break_down)
    writer = PromptWriter(Settings(device="cpu"))
    with pytest.raises(SetupError, match="emoji-prompt-writer fails at its warm-up"):
        await writer.load(lambda state: None)
    assert not writer.health().healthy
    await writer.close()


async def test_a_hub_model_that_is_here_is_named_with_its_commit(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--else"
    causal_checkpoint(repository / "snapshots" / commit, CHAT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    writer = await loaded(model="someone/else", offline=True, cache_dir=tmp_path)
    result = await written(writer, "a horse", max_new_tokens=4)
    assert (result.model, result.revision) == ("someone/else", commit)
    await writer.close()


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("  a horse\n", "a horse"),
        ('"a horse"', "a horse"),
        ("“a horse,\n  green”", "a horse, green"),
        ("\n\n", ""),
    ],
)
def test_a_prompt_is_freed_of_what_models_write_around_it(text: str, prompt: str) -> None:
    assert tidy(text, Asking.CHAT) == prompt


def test_a_model_that_goes_on_and_on_is_taken_at_its_first_line() -> None:
    assert tidy("\n a horse\nText: a dog", Asking.CONTINUED) == "a horse"
