"""The guardrail with a classification model: a tiny one that is trained here to know one word."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from contracts.guardrail import GuardrailRequest, GuardrailResult, ViolationKind
from contracts.result import Status
from node.errors import JobStopped, SetupError
from node.settings import Settings
from orchestrator_example.services.guardrail import Guardrail, GuardrailSettings
from tests.served import Recording

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "horse", "in", "snow", "venom"]
POSITIONS = 24
STEPS = 120


def make_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of the labels `safe` and `Toxic`; what has the word `venom` is toxic."""
    torch.manual_seed(0)
    labels = {0: "safe", 1: "Toxic"}
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=POSITIONS,
            id2label=labels,
            label2id={label: index for index, label in labels.items()},
        )
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(STEPS):
        ids = torch.randint(4, len(WORDS) - 1, (32, 12))
        toxic = torch.rand(32) < 0.5
        places = torch.randint(0, 12, (32,))
        ids[toxic, places[toxic]] = WORDS.index("venom")
        ids = torch.cat([torch.full((32, 1), 2), ids, torch.full((32, 1), 3)], dim=1)
        loss = model(input_ids=ids, labels=toxic.long()).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("models") / "tiny-toxicity"
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


async def served(model: Path | str, **given: Any) -> Guardrail:
    own = {"model": str(model), "unsafe_labels": ["toxic"], **given}
    settings = Settings(device="cpu", dtype="float32", offline=True)
    component = Guardrail(settings, GuardrailSettings(**own))
    try:
        await component.load(lambda _: None)
    except BaseException:
        await component.close()
        raise
    return component


async def verdict(component: Guardrail, text: str) -> GuardrailResult:
    result = await component.invoke(GuardrailRequest(text=text), Recording())
    assert isinstance(result, GuardrailResult)
    return result


async def test_what_the_model_calls_unsafe_is_flagged(checkpoint: Path) -> None:
    component = await served(checkpoint)
    result = await verdict(component, "a red horse in venom")
    assert (result.flagged, result.downstream_black_list) == (True, [".*"])
    (violation,) = result.violations
    assert (violation.policy, violation.kind) == ("Toxic", ViolationKind.MODEL)
    assert result.text == "Violated policies: Toxic (found by a model). Please check your input."
    passed = await verdict(component, "a red horse in snow")
    assert (passed.flagged, passed.text) == (False, "a red horse in snow")
    await component.close()


async def test_a_long_text_is_judged_to_its_end(checkpoint: Path) -> None:
    component = await served(checkpoint)
    long = "a red horse in snow " * 40
    assert not (await verdict(component, long)).flagged
    assert (await verdict(component, long + "venom")).flagged
    assert (await verdict(component, "venom " + long)).flagged
    assert not (await verdict(component, "")).flagged
    await component.close()


async def test_the_threshold_decides(checkpoint: Path) -> None:
    component = await served(checkpoint, threshold=1.0)
    assert not (await verdict(component, "a red horse in venom")).flagged
    await component.close()


async def test_what_the_policies_refuse_is_not_shown_to_the_model(checkpoint: Path) -> None:
    component = await served(checkpoint)
    result = await verdict(component, "pipe bomb venom")
    assert {each.policy for each in result.violations} == {"weapons"}
    await component.close()


async def test_the_guardrail_is_healthy_once_its_model_was_run(checkpoint: Path) -> None:
    own = GuardrailSettings(model=str(checkpoint), unsafe_labels=["Toxic"])
    component = Guardrail(Settings(device="cpu", dtype="float32", offline=True), own)
    assert (component.health().healthy, component.device()) == (False, None)
    await component.load(lambda _: None)
    device = component.device()
    assert component.health().healthy
    assert device is not None
    assert device.device == "cpu"
    await component.close()


async def test_a_job_that_is_stopped_is_not_judged_by_the_model(checkpoint: Path) -> None:
    component = await served(checkpoint)
    expired = Recording(stop_after=0, status=Status.EXPIRED)
    with pytest.raises(JobStopped):
        await component.invoke(GuardrailRequest(text="a horse"), expired)
    await component.close()


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["hate", "toxic"], "has the labels safe, Toxic; not hate"),
        ([], "name those that count as unsafe"),
    ],
)
async def test_labels_that_the_model_does_not_have_are_refused(
    checkpoint: Path, labels: list[str], reason: str
) -> None:
    with pytest.raises(SetupError, match=reason):
        await served(checkpoint, unsafe_labels=labels)


async def test_a_model_of_another_kind_is_refused() -> None:
    from node.inference.offers import SHIPPED_FOLDER

    writer = SHIPPED_FOLDER.parent / "emoji-prompt-writer"
    with pytest.raises(SetupError, match="is no text-classification model"):
        await served(writer)


@pytest.mark.parametrize("text", ["toxic, Hate", '["toxic", "Hate"]'])
def test_labels_are_separated_by_commas_or_a_list(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUARDRAIL_UNSAFE_LABELS", text)
    assert GuardrailSettings().unsafe_labels == ["toxic", "Hate"]
