"""What a node offers: the allow-list of models and LoRAs, from settings."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contracts.topology import model_slug
from node.errors import SetupError

# As `ModelId` and `Name` of the contract.
_MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_LORA_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


SHIPPED_MODEL: Final = "emoji-scenes"
SHIPPED_FOLDER: Final = Path(__file__).parent / "shipped" / SHIPPED_MODEL
"""The model of the package: small, and at home in scenes of emoji."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model by the name that requests use; `source` is a hub id or an existing folder."""

    name: str
    source: str
    revision: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether the source is a folder."""
        return Path(self.source).is_dir()


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """A LoRA by its announced name; `source` is a hub id, a folder or a safetensors file."""

    name: str
    source: str
    revision: str | None = None
    weight_name: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether the source is on this machine."""
        return Path(self.source).exists()


def parse_models(default: str | None, further: Sequence[str]) -> list[ModelSpec]:
    """Read NODE_MODEL and NODE_MODELS; the default comes first. Where none is set: the shipped one.

    Raises SetupError.
    """
    texts = ([default] if default else []) + list(further)
    texts = texts or [f"{SHIPPED_MODEL}={SHIPPED_FOLDER}"]
    # The default may be listed again among the models.
    specs = list(dict.fromkeys(_parse_model(text) for text in texts))
    _refuse_duplicates([model_slug(spec.name) for spec in specs], "models")
    return specs


def parse_loras(texts: Sequence[str]) -> dict[str, LoraSpec]:
    """Read NODE_LORAS: name=path-or-hub-id[@revision][:weight_name]. Raises SetupError."""
    specs = [_parse_lora(text) for text in texts]
    _refuse_duplicates([spec.name for spec in specs], "LoRAs")
    return {spec.name: spec for spec in specs}


def _parse_model(text: str) -> ModelSpec:
    """Read `[name=]source[@revision]`, where a folder has no revision."""
    name, source = _split_name(text)
    folder = Path(source).expanduser()
    # An empty path would be the working folder.
    if source and folder.is_dir():
        named = ModelSpec(name or folder.resolve().name, str(folder))
    elif source.startswith((".", "/", "~")):
        raise SetupError(f"model {source!r}: there is no such folder")
    else:
        source, _, revision = source.partition("@")
        if not _MODEL_NAME.fullmatch(source):
            raise SetupError(f"model {text!r} is neither a hub id nor an existing folder")
        named = ModelSpec(name or source, source, revision or None)
    if not _MODEL_NAME.fullmatch(named.name):
        raise SetupError(f"model {text!r} needs a plain name: write name={text}")
    return named


def _parse_lora(text: str) -> LoraSpec:
    name, source = _split_name(text)
    if not name or not _LORA_NAME.fullmatch(name):
        raise SetupError(f"LoRA {text!r} is not of the form name=path-or-hub-id[:weight_name]")
    path = Path(source).expanduser()
    if source and path.exists():
        return LoraSpec(name, str(path))
    source, _, weight_name = source.partition(":")
    path = Path(source).expanduser()
    if source and path.is_dir():
        return LoraSpec(name, str(path), None, weight_name or None)
    source, _, revision = source.partition("@")
    if not _MODEL_NAME.fullmatch(source):
        raise SetupError(f"LoRA {text!r}: {source!r} is neither a hub id nor an existing path")
    return LoraSpec(name, source, revision or None, weight_name or None)


def _split_name(text: str) -> tuple[str, str]:
    name, equals, source = text.strip().partition("=")
    return (name.strip(), source.strip()) if equals else ("", name.strip())


def _refuse_duplicates(names: list[str], what: str) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SetupError(f"two {what} have the same name: {', '.join(twice)}")
