"""The models of a node with what is known of each, and the names that requests may use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.discovery import ModelInfo, ModelLimits
from contracts.text2image import SIZE_GRANULARITY
from node.errors import ModelNotAvailable, SetupError
from node.inference.checkpoint import Facts
from node.inference.offers import LoraSpec, ModelSpec
from node.inference.traits import ModelTraits
from node.settings import Settings


@dataclass(slots=True)
class Offer:
    """A model on offer: first a name, then files, then a loaded pipeline."""

    spec: ModelSpec
    folder: Path | None = None
    facts: Facts | None = None
    traits: ModelTraits | None = None
    warm: bool = False

    @property
    def family(self) -> str | None:
        """Class of the pipeline."""
        return self.facts.family if self.facts else None

    @property
    def revision(self) -> str | None:
        """The commit of a hub's model once its files are here, else what was asked for."""
        if self.folder is not None and self.folder.parent.name == "snapshots":
            return self.folder.name
        return self.spec.revision

    @property
    def native_size(self) -> tuple[int, int] | None:
        """Width and height, as soon as they are known."""
        if self.traits is not None:
            return self.traits.native_width, self.traits.native_height
        return self.facts.native_size if self.facts else None


class Catalogue:
    """The allow-list. Its offers are changed on the event loop only."""

    def __init__(
        self, specs: Sequence[ModelSpec], loras: Mapping[str, LoraSpec], settings: Settings
    ) -> None:
        self.offers = [Offer(spec) for spec in specs]
        self._withdrawn: dict[str, str] = {}
        self._loras = loras
        self._settings = settings

    @property
    def default(self) -> Offer:
        """The model of requests that name none."""
        return self.offers[0]

    def withdraw(self, offer: Offer, why: str) -> None:
        """Offer a model no more. Raises SetupError where it is the default."""
        if offer is self.default:
            raise SetupError(f"{why}; set NODE_MODEL to one that has, or serve another component")
        self.offers.remove(offer)
        self._withdrawn[offer.spec.name] = why

    def find(self, name: str | None) -> Offer:
        """Find a model by name. Raises ModelNotAvailable."""
        if name is None:
            return self.default
        for offer in self.offers:
            if offer.spec.name == name:
                return offer
        names = ", ".join(offer.spec.name for offer in self.offers)
        if (why := self._withdrawn.get(name)) is not None:
            raise ModelNotAvailable(f"model: {why}; this node has {names}")
        raise ModelNotAvailable(f"model: this node has no {name!r}, but {names}")

    def lora_names(self, offer: Offer) -> list[str]:
        """List the LoRAs that requests for a model may name."""
        usable = offer.traits is None or offer.traits.loras
        return sorted(self._loras) if usable else []

    def limits(self, offer: Offer) -> ModelLimits:
        """Bounds of a model, as narrow as is known by now."""
        settings = self._settings
        known = offer.traits or offer.facts
        width, height = offer.native_size or (settings.max_pixels, settings.max_pixels)
        return ModelLimits(
            min_pixels=min(settings.min_pixels, settings.max_pixels, width, height),
            max_pixels=settings.max_pixels,
            size_granularity=known.granularity if known else SIZE_GRANULARITY,
            max_images=settings.max_images,
            max_inference_steps=settings.max_inference_steps,
        )

    def info(self, offer: Offer) -> ModelInfo:
        """Describe a model to the world."""
        width, height = offer.native_size or (None, None)
        return ModelInfo(
            id=offer.spec.name,
            revision=offer.revision,
            family=offer.family,
            warm=offer.warm,
            default=offer is self.default,
            native_width=width,
            native_height=height,
            limits=self.limits(offer),
            schedulers=list(offer.traits.schedulers) if offer.traits else [],
            loras=self.lora_names(offer),
        )
