"""Each training takes a few steps for real, resumes from its checkpoint, and exports."""

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from transformers import CLIPTokenizer, ResNetForImageClassification

from training import autoencoder, captioner, export, prompt_writer, text2image, tokenizer
from training.captions import known_words
from training.evaluate import evaluate_text2image
from training.labels import logit_names
from training.latents import LatentSet, shard_path, shard_scenes, write_shard
from training.loop import Optimizer, Schedule, load_checkpoint
from training.scenes import is_held_out, sample_scenes
from training.shared import Plan, single_threaded, train
from training.tests import needs
from training.writing import Writer, report

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
]

BATCH = 2


def plan(folder: Path, steps: int, adam_fraction: float = 1.0) -> Plan:
    return Plan(folder, Schedule(1e-3, steps, warmup_steps=1), adam_fraction, workers=1)


def checkpoint(folder: Path) -> dict[str, Any]:
    state = load_checkpoint(folder / "checkpoint.pt")
    assert state is not None
    return state


def trained_twice(folder: Path, task: Any) -> None:
    """Take two steps, resume for a third, and check that each one changed finite weights."""
    train(plan(folder, 2), task)
    before = checkpoint(folder)
    train(plan(folder, 3), task)
    after = checkpoint(folder)
    assert (before["step"], after["step"]) == (2, 3)
    assert not torch.equal(before["values"], after["values"])
    assert all(torch.isfinite(after[name]).all() for name in ("values", "momentum", "average"))


def losses_on_one_batch(task: Any, steps: int, rate: float) -> list[float]:
    """Train on the same batch again and again."""
    optimizer, losses = Optimizer(task.model.parameters()), []
    for _ in range(steps):
        torch.manual_seed(0)
        loss = task.loss(1, 1)
        task.model.zero_grad()
        loss.backward()
        optimizer.step(rate)
        losses.append(float(loss.detach()))
    return losses


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Train as workers do; two threads would wait for each other on a busy machine."""
    with single_threaded():
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `runs` is, with small tokenizers in it."""
    folder = tmp_path_factory.mktemp("runs")
    tokenizer.train_tokenizer(captions=200).save_pretrained(folder / "text2image" / "tokenizer")
    writer = prompt_writer.train_tokenizer(count=200)
    writer.save_pretrained(folder / "prompt_writer" / "tokenizer")
    return folder


@needs.font
def test_the_autoencoder_then_text2image_train_resume_and_export_a_pipeline(runs: Path) -> None:
    trained_twice(runs / "autoencoder", partial(autoencoder.Task, torch.float32, BATCH))
    error = autoencoder.write_sheet(
        autoencoder.load_autoencoder(runs / "autoencoder"), runs / "sheet.png", count=2
    )
    assert 0 < error < 40
    assert (runs / "sheet.png").is_file()
    latents = runs / "latents"
    latents.mkdir()
    model = autoencoder.load_autoencoder(runs / "autoencoder")
    write_shard(model, shard_path(latents, 0), shard_scenes(0, 6))
    folder = runs / "text2image"
    task = partial(text2image.Task, folder / "tokenizer", latents, torch.float32, BATCH)
    trained_twice(folder, task)
    assert math.isfinite(float(task().loss(1, 1).detach()))
    exported = _exported_pipeline(runs)
    settings = exported / "generation_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"num_inference_steps": 1}))
    judge = captioner.build_captioner().eval()
    report = evaluate_text2image(exported, judge, per_group=1, pictures=runs / "pictures.png")
    assert report["prompts"] == 9
    assert (runs / "pictures.png").is_file()


def _exported_pipeline(runs: Path) -> Path:
    exported = runs / "export" / "text2image"
    export.export(export.assemble(runs / "autoencoder", runs / "text2image"), exported)
    pipeline = DiffusionPipeline.from_pretrained(exported, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    (image,) = pipeline("a cat", num_inference_steps=2, guidance_scale=2.0).images
    assert image.size == (128, 128)
    assert len(list(exported.glob("*/*.safetensors"))) == 3
    return exported


@needs.font
def test_the_autoencoder_learns_a_batch_by_heart() -> None:
    torch.manual_seed(0)
    losses = losses_on_one_batch(autoencoder.Task(torch.float32, BATCH), 6, 2e-4)
    assert losses[-1] < losses[0]


@needs.font
def test_the_captioner_trains_resumes_and_exports(tmp_path: Path) -> None:
    schedule = Schedule(1e-3, 2, warmup_steps=1)
    captioner.train(tmp_path, schedule, torch.float32, batch_size=4)
    first = checkpoint(tmp_path)
    model = captioner.train(
        tmp_path, Schedule(1e-3, 3, warmup_steps=1), torch.float32, batch_size=4
    )
    assert (first["step"], checkpoint(tmp_path)["step"]) == (2, 3)
    accuracy = captioner.validate(model, count=8)
    assert all(0 <= share <= 1 for share in accuracy.values())
    model.half().save_pretrained(tmp_path / "export")
    read = ResNetForImageClassification.from_pretrained(tmp_path / "export", local_files_only=True)
    assert list(read.config.id2label.values()) == logit_names()


@needs.font
def test_the_captioner_learns_a_batch_by_heart() -> None:
    torch.manual_seed(0)
    model = captioner.build_captioner()
    optimizer = Optimizer(model.parameters())
    images, targets = captioner.labelled_batch(3, 4)
    losses = []
    for _ in range(6):
        loss = captioner.heads_loss(model(images).logits, targets)
        model.zero_grad()
        loss.backward()
        optimizer.step(2e-3)
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] * 0.8


def test_the_prompt_writer_trains_resumes_and_exports(runs: Path) -> None:
    folder = runs / "prompt_writer"
    trained_twice(folder, partial(prompt_writer.Task, folder / "tokenizer", torch.float32, BATCH))
    exported = runs / "export" / "prompt_writer"
    prompt_writer.export(prompt_writer.load_writer(folder), exported)
    writer = Writer.load(exported)
    assert len(writer.write(["a spaceman on a pony", ""])) == 2
    measured = report(writer, count=8)
    assert set(measured) == {"paraphrases", "real_prompts", "real_prompts_missed", "nonsense"}


def test_the_prompt_writer_learns_a_batch_by_heart(runs: Path) -> None:
    task = prompt_writer.Task(runs / "prompt_writer" / "tokenizer", torch.float32, 4)
    losses = losses_on_one_batch(task, 8, 2e-3)
    assert losses[-1] < losses[0] * 0.7


def test_no_latent_shard_has_a_held_out_combination() -> None:
    assert not any(is_held_out(scene) for shard in range(20) for scene in shard_scenes(shard))


def test_a_shard_keeps_its_first_scenes_whatever_its_size() -> None:
    assert shard_scenes(3, 5) == shard_scenes(3, 50)[:5]
    assert shard_scenes(3, 50) != shard_scenes(4, 50)


def test_new_shards_are_found_and_rows_belong_to_their_scenes(tmp_path: Path) -> None:
    first, second = (np.full((4, 12, 16, 16), value, np.float16) for value in (1, 2))
    np.save(shard_path(tmp_path, 0), first)
    latents = LatentSet(tmp_path)
    assert len(latents) == 4
    np.save(shard_path(tmp_path, 1), second)
    latents.refresh()
    assert latents.scenes == shard_scenes(0, 4) + shard_scenes(1, 4)
    assert latents.values([0, 3, 4, 7]).mean(dim=(1, 2, 3)).tolist() == [1, 1, 2, 2]


def test_without_latents_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run training\.latents first"):
        LatentSet(tmp_path)


def test_the_judge_meets_held_out_combinations_too() -> None:
    scenes = captioner.labelled_scenes(seed=5, count=100)
    assert sum(map(is_held_out, scenes)) == 10


def test_the_same_seed_draws_the_same_batch(tmp_path: Path, runs: Path) -> None:
    np.save(shard_path(tmp_path, 0), np.random.default_rng(0).normal(size=(9, 12, 16, 16)))
    latents = LatentSet(tmp_path)
    words = tokenizer.load_tokenizer(runs / "text2image" / "tokenizer")
    first, again, other = (text2image.draw_batch(latents, words, seed, 4) for seed in (1, 1, 2))
    assert torch.equal(first.ids, again.ids)
    assert torch.equal(first.latents, again.latents)
    assert not torch.equal(first.latents, other.latents)


def test_the_picture_model_s_tokenizer_takes_any_text(runs: Path) -> None:
    words = CLIPTokenizer.from_pretrained(runs / "text2image" / "tokenizer")
    for text in ("an astronaut", "Grüße 你好 \N{HORSE}", "", "x" * 500):
        ids = words(text, padding="max_length", truncation=True).input_ids
        assert len(ids) == tokenizer.MAX_TOKENS
        assert max(ids) < len(words)


def test_scenes_are_worded_in_words_that_the_export_lists() -> None:
    named = {item.subject for scene, _ in zip(sample_scenes(1), range(300), strict=False)
             for item in scene.items}  # fmt: skip
    assert named <= set(known_words())
