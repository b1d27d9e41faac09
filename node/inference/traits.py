"""What a model can do with a request, as data: read from its folder, or from its pipeline."""

from dataclasses import dataclass
from enum import StrEnum

from node.inference.memory_plan import Measure


class Guidance(StrEnum):
    """What `guidance_scale` does.

    `classifier_free`: two predictions are mixed, and a negative prompt takes part in one.
    `distilled`: the scale is an input of the model, which knows no negative prompt.
    `none`: nothing.
    """

    CLASSIFIER_FREE = "classifier_free"
    DISTILLED = "distilled"
    NONE = "none"


class Task(StrEnum):
    """What a pipeline begins with: noise, or a picture to which noise is added."""

    TEXT2IMAGE = "text2image"
    IMAGE2IMAGE = "image2image"


def entry(name: str, task: Task) -> str:
    """Name what is loaded of a model for a task; no model has a colon in its name."""
    return name if task is Task.TEXT2IMAGE else f"{task.value}:{name}"


class Kept(StrEnum):
    """How many inference steps a family runs, of those that were asked for, at a strength."""

    ROUNDED_DOWN = "rounded_down"
    ROUNDED_UP = "rounded_up"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the publisher of a checkpoint wants when a request is silent; None: the pipeline's.

    `vocabulary` are the words that the model was trained on; empty: it takes any text.
    """

    width: int | None = None
    height: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    vocabulary: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """What a loaded model does with each field of a request.

    `arguments` are the names that the pipeline's call takes. `negative_prompt` says whether one
    can have an effect at all. `measures` are what can be done when memory is short. `strength` is
    the default of models that make images from pictures, and `kept` what it does to the steps.
    """

    family: str
    arguments: frozenset[str]
    native_width: int
    native_height: int
    granularity: int
    num_inference_steps: int
    guidance_scale: float | None
    guidance: Guidance
    negative_prompt: bool
    scheduler: str
    schedulers: tuple[str, ...]
    previews: bool
    loras: bool
    vocabulary: frozenset[str] = frozenset()
    measures: frozenset[Measure] = frozenset()
    task: Task = Task.TEXT2IMAGE
    strength: float | None = None
    kept: Kept = Kept.ALL

    @property
    def any_size(self) -> bool:
        """Whether images can have another size than the native one: the picture's, say."""
        return self.task is Task.IMAGE2IMAGE or {"width", "height"} <= self.arguments
