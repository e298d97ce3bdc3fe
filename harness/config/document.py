"""A YAML file as plain data that remembers on which line each value stands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.config.bounded import TooLargeError, read_bounded
from harness.config.errors import ConfigError

LARGEST = 1_000_000  # bytes: thirty times what the longest file here has
_VALUES = 100_000  # of a file; what an alias stands for counts each time
_NESTED = 100  # collections in one another. PyYAML's C code overruns its stack at some tens of thousands
_LONGEST = 100  # characters of what is no text: Python takes ever longer to read longer numbers

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML has it: a report reads a hundred files
_PLAIN = (yaml.resolver.Resolver.DEFAULT_MAPPING_TAG, yaml.resolver.Resolver.DEFAULT_SEQUENCE_TAG)


@dataclass(frozen=True)
class Document:
    """`lines` maps the dotted path of every value (list items as [i]) to its line."""

    path: Path
    data: dict[str, Any]
    lines: dict[str, int]

    def where(self, key: str) -> str:
        """File and line of a dotted path, or of its nearest parent that stands in the file."""
        while key and key not in self.lines:
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return f"{shown(self.path)}:{self.lines.get(key, 1)}"

    def error(self, key: str, problem: str) -> ConfigError:
        return ConfigError(f"{self.where(key)}: {key}: {problem}" if key else f"{self.where(key)}: {problem}")


def shown(path: Path) -> str:
    """A path as the person would type it: relative where it lies below the working directory."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def read_yaml(path: Path) -> Document:
    """Read one mapping; a repeated key is an error (PyYAML would silently keep the last)."""
    lines: dict[str, int] = {}
    try:
        text = read_bounded(path, LARGEST).decode("utf-8")
        _check_nesting(text)
        node = yaml.compose(text, Loader=_LOADER)
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{shown(path)}:1: must hold a mapping of keys to values")
        data = _Reader(path, lines).plain(node, "")
    except FileNotFoundError:
        raise ConfigError(f"{shown(path)} does not exist") from None
    except TooLargeError as error:
        raise ConfigError(f"{shown(path)} {error}; shorten it, or split it up") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{shown(path)}:{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:  # characters that YAML does not know
        raise ConfigError(f"{shown(path)}: not valid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ConfigError(f"{shown(path)}: nests too deeply") from None
    return Document(path, data, lines)


def _check_nesting(text: str) -> None:
    """Raise RecursionError where YAML's own reader might not come back from."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _NESTED:
            raise RecursionError


class _Reader:
    """From YAML's nodes to plain values; `lines` receives the place of each."""

    def __init__(self, path: Path, lines: dict[str, int]) -> None:
        self._path = path
        self._lines = lines
        self._loader = yaml.SafeLoader("")
        self._values = 0

    def plain(self, node: yaml.Node, key: str) -> Any:
        self._values += 1
        if self._values > _VALUES:
            raise self._error(node, f"holds more than {_VALUES} values; shorten it, or use fewer aliases")
        self._lines.setdefault(key, node.start_mark.line + 1)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN:
            raise self._error(node, f"{key}: must be plain, without {node.tag}")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item, f"{key}[{i}]") for i, item in enumerate(node.value)]
        return self._scalar(node, key)

    def _mapping(self, node: yaml.MappingNode, key: str) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, yaml.ScalarNode):
                raise self._error(name_node, "a key must be a name or a number")
            name = self._scalar(name_node, key)
            if name in result:
                raise self._error(name_node, f"'{name}' stands twice in this mapping")
            child = f"{key}.{name}" if key else str(name)
            self._lines[child] = name_node.start_mark.line + 1
            result[name] = self.plain(value_node, child)
        return result

    def _scalar(self, node: yaml.Node, key: str) -> Any:
        if len(node.value) > _LONGEST and node.tag != yaml.resolver.Resolver.DEFAULT_SCALAR_TAG:
            raise self._error(node, f"{key}: is too long for a number; quote it if it is text")
        try:
            value = self._loader.construct_object(node)
        except ValueError:  # what looks like a date or a number of another base, but is none
            raise self._error(node, f"{key}: cannot read '{node.value}'; quote it if it is text") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise self._error(node, f"{key}: must be a finite number, not {node.value}")
        return value

    def _error(self, node: yaml.Node, problem: str) -> ConfigError:
        return ConfigError(f"{shown(self._path)}:{node.start_mark.line + 1}: {problem}")
