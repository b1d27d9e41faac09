"""Where services take and give text and images: what a flow carries that names no fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Kinds:
    """Fields of a service's request, and paths in its answer, by what they stand for."""

    takes: Mapping[str, str] = field(default_factory=dict)
    gives: Mapping[str, str] = field(default_factory=dict)

    def taken_from(self, giver: "Kinds") -> dict[str, str]:
        """Map each field to the path of the same kind."""
        return {self.takes[kind]: giver.gives[kind] for kind in self.takes if kind in giver.gives}


KINDS: Final[Mapping[str, Kinds]] = {
    "text2image": Kinds({"text": "prompt"}, {"image": "images.0"}),
    "image2image": Kinds({"text": "prompt", "image": "image"}, {"image": "images.0"}),
    "prompt-writer": Kinds({"text": "text"}, {"text": "text"}),
    "guardrail": Kinds({"text": "text"}, {"text": "text"}),
    "captioner": Kinds({"text": "prompt", "image": "image"}, {"text": "text"}),
}
