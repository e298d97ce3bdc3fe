"""A YAML file as plain data that remembers on which line each value stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.config.errors import ConfigError


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
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise ConfigError(f"{shown(path)} does not exist") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{shown(path)}:{line}: not valid YAML: {error.problem}") from None
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{shown(path)}:1: must hold a mapping of keys to values")
    lines: dict[str, int] = {}
    loader = yaml.SafeLoader("")
    data = _plain(node, "", path, lines, loader)
    assert isinstance(data, dict)
    return Document(path, data, lines)


def _plain(node: yaml.Node, key: str, path: Path, lines: dict[str, int], loader: yaml.SafeLoader) -> Any:
    lines[key] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        result: dict[Any, Any] = {}
        for name_node, value_node in node.value:
            name = loader.construct_object(name_node)
            if name in result:
                line = name_node.start_mark.line + 1
                raise ConfigError(f"{shown(path)}:{line}: '{name}' stands twice in this mapping")
            child = f"{key}.{name}" if key else str(name)
            result[name] = _plain(value_node, child, path, lines, loader)
            lines[child] = name_node.start_mark.line + 1
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, f"{key}[{i}]", path, lines, loader) for i, item in enumerate(node.value)]
    return loader.construct_object(node)
