"""Mega-services to serve as they are, and to begin one's own with.

text2image-node serve --component checked-painter
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final

from pydantic import Field

from contracts.megaservice import MegaServiceRequest, StageReport
from contracts.message import MAX_SEED, Message
from contracts.text2image import Prompt
from orchestrator_example.graph import Document, ServiceGraph, Stage
from orchestrator_example.megaservice import MegaService
from orchestrator_example.policy import OnFailure, Policy

CANDIDATES: Final = 4


class Painter(MegaService):
    """A prompt in one's own words becomes one that the picture model understands, and a picture."""

    name = "painter"
    description = "Writes a prompt and paints it"
    graph = (
        ServiceGraph()
        .add(Stage("prompt-writer", policy=Policy(timeout_seconds=60, retries=1)))
        .add(Stage("text2image"))
        .follow(["prompt-writer >> text2image"])
    )


def _is_not_rejected(verdict: Document) -> bool:
    # Null means that the captioner cannot judge: then there is no reason to paint again.
    return verdict.get("matches") is not False


class CheckedPainter(MegaService):
    """Refuses what policies forbid, and paints once more what does not show the prompt."""

    name = "checked-painter"
    description = "Checks the words, paints them, and checks the picture"
    graph = (
        ServiceGraph()
        .add(Stage("guardrail"))
        .add(Stage("prompt-writer", policy=Policy(timeout_seconds=60, retries=1)))
        .add(Stage("text2image"))
        .add(Stage("captioner"))
        .follow(["guardrail >> prompt-writer >> text2image >> captioner"])
        .flow_to("prompt-writer", "captioner", {"prompt": "text"})
        .repeat("text2image", "captioner", _is_not_rejected, vary={"seed": 1})
    )


class BestOfRequest(MegaServiceRequest):
    """A prompt of which several pictures are made."""

    seed: int | None = Field(default=None, ge=0, le=MAX_SEED - CANDIDATES, examples=[42])
    """Seed of the first picture, the next one more each; null is random."""


def _seeded(number: int, request: Document, _: Mapping[str, Document]) -> dict[str, Any]:
    return {} if request["seed"] is None else {"seed": request["seed"] + number}


def best_of(candidates: int) -> ServiceGraph:
    """Draw as many pictures of one prompt, in parallel, and a captioner that picks the best."""
    # One that fails does not matter as long as another one is there.
    left_out = Policy(on_failure=OnFailure.SKIP)
    graph = ServiceGraph().add(Stage("prompt-writer"))
    names = [f"text2image-{number}" for number in range(candidates)]
    for number, name in enumerate(names):
        graph = graph.add(
            Stage(name, "text2image", policy=left_out, build=partial(_seeded, number))
        ).flow_to("prompt-writer", name)
    graph = graph.add(Stage("captioner")).flow_to("prompt-writer", "captioner", {"prompt": "text"})
    for name in names:
        graph = graph.flow_to(name, "captioner", {"images[]": "images.0"})
    return graph


class BestOf(MegaService):
    """Makes several pictures with different seeds, and gives the one that shows the prompt best."""

    name = "best-of"
    description = f"Paints {CANDIDATES} pictures and picks the best"
    request_model: ClassVar[type[Message]] = BestOfRequest
    graph = best_of(CANDIDATES)

    def chosen(self, reports: Mapping[str, StageReport]) -> Sequence[str] | None:
        """The picture that the captioner picked; where it picked none, the first."""
        # The captioner counts what it was given, in the order of the flows.
        candidates = [name for name in self.graph.before("captioner") if name != "prompt-writer"]
        painted = [name for name in candidates if name in reports and reports[name].output]
        judge = reports.get("captioner")
        best = judge.output.get("best") if judge else None
        if isinstance(best, int) and 0 <= best < len(painted):
            return [painted[best]]
        return painted[:1]


class RepaintRequest(MegaServiceRequest):
    """A prompt, and what the picture is turned into."""

    repaint: Prompt = Field(examples=["an astronaut riding a blue horse"])
    """What the second picture shows."""
    strength: float = Field(default=0.6, gt=0, le=1)
    """How far the second picture may go from the first."""


def _repainted(request: Document, _: Mapping[str, Document]) -> dict[str, Any]:
    return {"prompt": request["repaint"], "strength": request["strength"]}


class Repainter(MegaService):
    """Paints a picture, and paints another one over it."""

    name = "repainter"
    description = "Paints a picture and paints it over"
    request_model: ClassVar[type[Message]] = RepaintRequest
    graph = (
        ServiceGraph()
        .add(Stage("text2image"))
        .add(Stage("image2image", build=_repainted))
        .flow_to("text2image", "image2image")
    )


def _as_chat(request: Document, _: Mapping[str, Document]) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "system", "content": "Describe the picture that is asked for in one line."},
            {"role": "user", "content": request["prompt"]},
        ],
        "stream": False,
    }


class ChatPainter(MegaService):
    """Lets an OPEA LLM microservice (HTTP, chat completions) write the prompt.

    Where it is not there in time, the caller's own words are painted.
    """

    name = "chat-painter"
    description = "Paints what a language model of OPEA writes"
    graph = (
        ServiceGraph()
        .add(
            Stage(
                "llm",
                "opea-llm",
                policy=Policy(timeout_seconds=60, on_failure=OnFailure.SKIP),
                build=_as_chat,
            )
        )
        .add(Stage("text2image"))
        .flow_to("llm", "text2image", {"prompt": "output.choices.0.message.content"})
    )
