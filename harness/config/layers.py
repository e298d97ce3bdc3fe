"""A spec in the making: nested plain values, each with the place it was last set."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from harness.config.document import Document
from harness.config.errors import ConfigError
from harness.config.structure import StructureError, structure, unknown

T = TypeVar("T")


class Layers:
    """Starts as a document; cells and profiles set dotted keys on top, and an error names who set the value."""

    def __init__(self, document: Document, drop: tuple[str, ...] = ()) -> None:
        self._data = {name: copy.deepcopy(value) for name, value in document.data.items() if name not in drop}
        self._base = document
        self._where: dict[str, str] = {}

    def copy(self) -> Layers:
        other = Layers(self._base)
        other._data = copy.deepcopy(self._data)
        other._where = dict(self._where)
        return other

    def where(self, key: str) -> str:
        probe = key
        while probe:
            if probe in self._where:
                return self._where[probe]
            probe = probe[: max(probe.rfind("."), probe.rfind("["), 0)]
        return self._base.where(key)

    def get(self, key: str) -> Any:
        value: Any = self._data
        for name in key.split("."):
            value = value[name]
        return value

    def has(self, key: str) -> bool:
        try:
            self.get(key)
        except (KeyError, TypeError):
            return False
        return True

    def set(self, key: str, value: Any, where: str) -> None:
        """Set an existing dotted key; a key the recipe does not have is an error."""
        *parents, last = key.split(".")
        target: Any = self._data
        for name in parents:
            target = _child(target, name, key, where)
        _child(target, last, key, where)
        target[last] = copy.deepcopy(value)
        self._where = {k: v for k, v in self._where.items() if k != key and not k.startswith(f"{key}.")}
        self._where[key] = where

    def include(self, key: str, document: Document, part: str = "") -> None:
        """Put a document, or one part of it, below an existing key; its own lines are the places of its values."""
        self.set(key, document.data[part] if part else document.data, document.where(part))
        prefix = f"{part}." if part else ""
        below = {child.removeprefix(prefix): child for child in document.lines if child and child.startswith(prefix)}
        self._where |= {f"{key}.{short}": document.where(child) for short, child in below.items()}

    def add(self, key: str, value: Any) -> None:
        """Add a key that no file sets (facts of the dataset, the seed)."""
        *parents, last = key.split(".")
        target: Any = self._data
        for name in parents:
            target = target[name]
        if last in target:
            raise ConfigError(f"{self.where(key)}: {key}: is not set here; it follows from the dataset or the table")
        target[last] = value

    def build(self, cls: type[T], check: Callable[[T], None]) -> T:
        try:
            built = structure(cls, self._data)
            check(built)
            return built
        except StructureError as error:
            raise ConfigError(f"{self.where(error.key)}: {error.key}: {error.problem}") from None


def _child(target: Any, name: str, key: str, where: str) -> Any:
    if not isinstance(target, Mapping):
        raise ConfigError(f"{where}: {key}: there is nothing below the value {target!r}")
    if name not in target:
        raise ConfigError(f"{where}: {key}: {unknown(name, target)}")
    return target[name]
