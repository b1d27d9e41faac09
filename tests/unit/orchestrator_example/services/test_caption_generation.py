"""Captions from any image-to-text or vision-language model, tried with tiny ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image, ImageDraw

from contracts.result import Status
from node.errors import JobStopped, SetupError
from node.inference.offers import SHIPPED_FOLDER
from orchestrator_example.services.caption_generation import shared_words
from tests.checkpoints import t5_tokenizer
from tests.served import Recording
from tests.unit.orchestrator_example.services.captions import BLANK, captioned, file_of, loaded

CHAT = (
    "{% for message in messages %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endfor %}"
)
TINY: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
EYES: dict[str, Any] = {**TINY, "image_size": 32, "patch_size": 16}


def image_tokenizer() -> transformers.T5TokenizerFast:
    """One that has a token for a picture."""
    tokenizer = t5_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return tokenizer


def blip(folder: Path) -> None:
    """A tiny BLIP, that captions and takes no instructions."""
    text = {**TINY, "vocab_size": 98, "encoder_hidden_size": 16, "projection_dim": 16}
    ends = {"bos_token_id": 1, "eos_token_id": 1, "sep_token_id": 1, "pad_token_id": 0}
    transformers.BlipForConditionalGeneration(
        transformers.BlipConfig(
            text_config={**text, **ends},
            vision_config={**EYES, "projection_dim": 16},
            image_text_hidden_size=16,
            projection_dim=16,
        )
    ).save_pretrained(folder)
    transformers.BlipProcessor(
        transformers.BlipImageProcessorPil(size={"height": 32, "width": 32}), t5_tokenizer()
    ).save_pretrained(folder)


def vit_gpt2(folder: Path) -> None:
    """A tiny ViT with GPT-2, whose processor of pictures and tokenizer lie side by side."""
    model = transformers.VisionEncoderDecoderModel(
        encoder=transformers.ViTModel(transformers.ViTConfig(**EYES)),
        decoder=transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=98,
                n_positions=128,
                n_embd=16,
                n_layer=1,
                n_head=2,
                add_cross_attention=True,
                bos_token_id=1,
                eos_token_id=1,
            )
        ),
    )
    ends = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
    model.config.update({"decoder_start_token_id": 0, "pad_token_id": 0})
    model.generation_config.update(**ends)
    model.save_pretrained(folder)
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    t5_tokenizer().save_pretrained(folder)


def llava(folder: Path) -> None:
    """A tiny LLaVA, that is asked in a chat."""
    transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(
            vision_config=transformers.CLIPVisionConfig(**EYES),
            text_config=transformers.LlamaConfig(**TINY, vocab_size=99, eos_token_id=1),
            image_token_id=98,
        )
    ).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    transformers.LlavaProcessor(
        transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size),
        image_tokenizer(),
        patch_size=16,
        vision_feature_select_strategy="default",
        chat_template=CHAT,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)


def checkpoint(build: Callable[[Path], None], folder: Path) -> Path:
    """Build with random weights, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        build(folder)
    return folder


@pytest.mark.parametrize("build", [blip, vit_gpt2, llava])
async def test_any_image_to_text_model_captions_the_same_each_time(
    tmp_path: Path, build: Callable[[Path], None]
) -> None:
    captioner = await loaded(model=str(checkpoint(build, tmp_path / "tiny")))
    picture = Image.new("RGB", (90, 60), "red")
    ImageDraw.Draw(picture).rectangle((10, 10, 40, 40), "blue")
    given = {"image": file_of(picture), "prompt": "a blue box"}
    first, again = [await captioned(captioner, **given) for _ in range(2)]
    assert (first.text, first.model) == (again.text, "tiny")
    assert first.captions[0].score == shared_words("a blue box", str(first.text))
    assert first.matches == (first.captions[0].score >= 0.5)
    assert (await captioned(captioner, image=BLANK)).matches is None
    await captioner.close()


async def test_a_model_that_is_asked_in_a_chat_does_not_repeat_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = await loaded(model=str(checkpoint(llava, tmp_path / "tiny")))
    asked: list[str] = []

    def answer(model: Any, input_ids: Any, **given: Any) -> Any:
        asked.append(image_tokenizer().decode(input_ids[0], skip_special_tokens=True))
        words = image_tokenizer()("a green horse").input_ids
        return torch.cat([input_ids, torch.tensor([words])], dim=1)

    monkeypatch.setattr(transformers.LlavaForConditionalGeneration, "generate", answer)
    result = await captioned(captioner, image=BLANK, prompt="green horses at night")
    assert asked == ["Describe this picture in one short sentence."]
    assert result.text == "a green horse"
    assert result.captions[0].score == pytest.approx(2 / 3)
    assert result.matches is True
    await captioner.close()


async def test_a_job_stops_between_two_tokens_of_a_caption(tmp_path: Path) -> None:
    captioner = await loaded(model=str(checkpoint(llava, tmp_path / "tiny")))
    asked = []

    class Impatient(Recording):
        def stop_requested(self) -> Status | None:
            asked.append(len(asked))
            return Status.EXPIRED if len(asked) > 5 else None

    with pytest.raises(JobStopped) as stopped:
        await captioned(captioner, Impatient(), image=BLANK)
    assert stopped.value.status is Status.EXPIRED
    assert len(asked) == 6
    await captioner.close()


async def test_a_model_that_captions_nothing_is_refused_at_start(tmp_path: Path) -> None:
    for model, kind in (
        (SHIPPED_FOLDER.parent / "emoji-prompt-writer", "T5ForConditionalGeneration"),
        (_classifier(tmp_path / "cats-and-dogs"), "ResNetForImageClassification"),
    ):
        with pytest.raises(SetupError, match=f"captions no pictures: it is a {kind}"):
            await loaded(model=str(model))


def _classifier(folder: Path) -> Path:
    """An ordinary classifier of pictures."""
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8], depths=[1], id2label={0: "cat", 1: "dog"}
    )
    transformers.ResNetForImageClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("prompt", "text", "share"),
    [
        ("a green horse", "the horse is green", 1.0),
        ("two green horses", "a horse on a field", 1 / 3),
        ("a dog", "a cat", 0.0),
        ("on the", "a cat", None),
    ],
)
def test_a_caption_shares_words_with_a_prompt(prompt: str, text: str, share: float | None) -> None:
    assert shared_words(prompt, text) == share
