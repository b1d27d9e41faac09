"""A YAML file that says where in it something is wrong."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from orchestrator_example.graph import GraphError

_TAG: Final = "tag:yaml.org,2002:"
_PLAIN: Final = frozenset(
    _TAG + name for name in ("map", "seq", "str", "int", "float", "bool", "null", "merge")
)


@dataclass(frozen=True, slots=True)
class YamlSource:
    """The values of a file, and the tree that knows their lines."""

    path: Path
    data: Any
    tree: yaml.Node | None

    @classmethod
    def read(cls, path: Path) -> "YamlSource":
        """Read values that JSON has as well, each key once. Raises GraphError."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise GraphError(f"{path}: it cannot be read: {error}") from error
        try:
            tree = yaml.compose(text, Loader=yaml.SafeLoader)
            _refuse_surprises(path, tree, set())
            return cls(path, yaml.safe_load(text), tree)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise GraphError(f"{path}, line {line}: {error.problem}") from error
        except (yaml.YAMLError, RecursionError) as error:
            raise GraphError(f"{path}: it is no YAML: {error}") from error

    def complaint(self, place: Sequence[str | int], reason: str) -> str:
        """Write what is wrong at a place."""
        where = ".".join(str(step) for step in place)
        return f"{self.path}, line {self._line(place)}: {where + ': ' if where else ''}{reason}"

    @contextmanager
    def blaming(self, *place: str | int) -> Iterator[None]:
        """Let a GraphError inside the context name a place."""
        try:
            yield
        except GraphError as error:
            raise GraphError(self.complaint(place, str(error))) from error

    def _line(self, place: Sequence[str | int]) -> int:
        """Find the line of a place, or of the nearest one around it; from 1."""
        node, line = self.tree, 1
        for step in place:
            if isinstance(node, yaml.MappingNode):
                entries = [pair for pair in node.value if pair[0].value == str(step)]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                entries = [(node.value[step], node.value[step])]
            else:
                break
            if not entries:
                break
            key, node = entries[0]
            line = key.start_mark.line + 1
        return line


def _refuse_surprises(path: Path, node: yaml.Node | None, seen: set[int]) -> None:
    """Raise GraphError for what YAML reads otherwise than people do, or JSON cannot say."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    here = f"{path}, line {node.start_mark.line + 1}"
    is_number = node.tag != _TAG + "float" or node.value.lower().strip("+-.") not in ("inf", "nan")
    if node.tag not in _PLAIN or not is_number:
        kind = node.tag.removeprefix(_TAG)
        raise GraphError(f"{here}: {node.value!r} is read as a {kind}; put it in quotes")
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _refuse_surprises(path, each, seen)
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in keys:
                line = key.start_mark.line + 1
                raise GraphError(f"{path}, line {line}: {key.value!r} is there twice, or no word")
            keys.add(key.value)
            _refuse_surprises(path, key, seen)
            _refuse_surprises(path, value, seen)
