"""Policies of a guardrail: read from YAML, checked and compiled once.

policies:
  - name: weapons
    message: asks for a weapon to be built
    deny: [pipe bomb, nail bomb]      # whole words, in any disguise that guard_text takes off
    patterns: ['\\bgun\\s+blueprint']  # regular expressions, case ignored
    allow: [bomb disposal]            # these are blotted out before the rules are applied
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import regex  # type: ignore[import-untyped,unused-ignore]
import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from node.errors import SetupError
from orchestrator_example.services.guard_words import Phrases, phrase_of

TRIAL_SECONDS: Final = 1.0

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]


class _PolicyText(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}$")]
    message: Text
    deny: list[Text] = Field(default_factory=list)
    patterns: list[Text] = Field(default_factory=list)
    allow: list[Text] = Field(default_factory=list)


class _PolicyFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    policies: list[_PolicyText] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that is ready to judge; rules keep the order of the file."""

    name: str
    message: str
    deny: Phrases
    patterns: tuple[Any, ...]
    allow: Phrases


def load_policies(path: Path) -> tuple[Policy, ...]:
    """Read a file of policies. Raises SetupError that names the file, the policy and the error."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        parsed = _PolicyFile.model_validate(document)
    except OSError as error:
        raise SetupError(f"GUARDRAIL_POLICIES: cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SetupError(f"GUARDRAIL_POLICIES: {path} is no YAML: {_one_line(error)}") from error
    except ValidationError as error:
        raise SetupError(f"GUARDRAIL_POLICIES: {path}: {_first_error(error, document)}") from error
    names = [each.name for each in parsed.policies]
    for name in names:
        if names.count(name) > 1:
            raise SetupError(f"GUARDRAIL_POLICIES: {path}: two policies have the name {name!r}")
    return tuple(_compiled(each, path) for each in parsed.policies)


def _compiled(given: _PolicyText, path: Path) -> Policy:
    where = f"GUARDRAIL_POLICIES: {path}: policy {given.name!r}"
    if not given.deny and not given.patterns:
        raise SetupError(f"{where} has neither deny nor patterns: it could never be violated")
    return Policy(
        given.name,
        given.message,
        Phrases([_phrase(each, f"{where}, deny") for each in given.deny]),
        tuple(_pattern(each, where) for each in given.patterns),
        Phrases([_phrase(each, f"{where}, allow") for each in given.allow]),
    )


def _phrase(entry: str, where: str) -> str:
    try:
        return phrase_of(entry)
    except ValueError as error:
        raise SetupError(f"{where} {entry!r}: {error}") from error


def _pattern(expression: str, where: str) -> Any:
    try:
        compiled = regex.compile(expression, regex.IGNORECASE | regex.VERSION0)
        matches_nothing = compiled.search("", timeout=TRIAL_SECONDS) is not None
    except (regex.error, TimeoutError, RecursionError, OverflowError) as error:
        raise SetupError(f"{where}, pattern {expression!r}: {_one_line(error)}") from error
    if matches_nothing:
        raise SetupError(f"{where}, pattern {expression!r}: it matches an empty text, so every one")
    return compiled


def _first_error(error: ValidationError, document: Any) -> str:
    item = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in item["loc"]) or "the document"
    return f"{_policy_name(item['loc'], document)}{where}: {item['msg']}"


def _policy_name(location: tuple[int | str, ...], document: Any) -> str:
    """Name the policy that an error lies in; its place in the list alone is hard to find."""
    if len(location) < 2 or not isinstance(location[1], int):
        return ""
    policy = document["policies"][location[1]]
    name = policy.get("name") if isinstance(policy, dict) else None
    return f"policy {name!r}: " if name else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
