"""What a captioner must be able to do, whatever model it is."""

from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from orchestrator_example.services.checkpoint_component import StopRequested


@dataclass(frozen=True, slots=True)
class Sight:
    """A picture in words; with a prompt that can be judged, how well it shows that."""

    text: str
    score: float | None = None
    matches: bool | None = None


class CaptionModel(Protocol):
    """Looks at pictures. Made and used by the inference thread alone."""

    def warm_up(self) -> None:
        """Look at anything."""

    def look(self, image: Image.Image, prompt: str | None, stop_requested: StopRequested) -> Sight:
        """Caption an RGB picture, and judge it by the prompt. Raises JobStopped, JobError."""

    def warnings(self, prompt: str) -> list[str]:
        """Say what of a prompt cannot be judged."""
