"""What a file of experiments/ leaves out or abbreviates, filled in before its values are checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from harness.config.datasets import DATASETS
from harness.config.errors import ConfigError
from harness.config.files import named_file
from harness.config.layers import Layers
from harness.config.structure import unknown


def with_knobs(layers: Layers, cls: type) -> Layers:
    """What the schema gained later stands at its neutral value where a file leaves it out, so that cells can set it."""
    for key, value in _knobs(cls).items():
        section = key.rpartition(".")[0]
        there = not section or (layers.has(section) and isinstance(layers.get(section), dict))
        if there and not layers.has(key):
            layers.add(key, value)
    return layers


@cache
def _knobs(cls: type) -> dict[str, Any]:
    """The dotted keys of a schema's fields that have a neutral value."""
    knobs: dict[str, Any] = {}
    hints = get_type_hints(cls)
    for field in fields(cls):
        if is_dataclass(hint := hints[field.name]) and isinstance(hint, type):
            knobs |= {f"{field.name}.{key}": value for key, value in _knobs(hint).items()}
        elif "neutral" in field.metadata:
            knobs[field.name] = field.metadata["neutral"]
    return knobs


def with_views(layers: Layers) -> Layers:
    """`views: byol` stands for the file of that name, so that a spec holds every probability and range itself."""
    if layers.has("data.views") and isinstance(name := layers.get("data.views"), str):
        layers.include("data.views", named_file("views", name, layers.where("data.views")))
    return layers


def with_view(layers: Layers) -> Layers:
    """`view: byol.first` stands for one of the two distributions of a file of views."""
    if isinstance(told := layers.get("data.view"), str):
        where = layers.where("data.view")
        name, _, part = told.partition(".")
        document = named_file("views", name, where)
        if part not in document.data:
            raise ConfigError(f"{where}: data.view: '{told}' must name one of {name}'s: {name}.first or {name}.second")
        layers.include("data.view", document, part)
    return layers


def complete(layers: Layers, added: Mapping[str, Any]) -> Layers:
    """Add what no file sets: the dataset's facts, and `added`."""
    layers = layers.copy()
    for key, value in added.items():
        layers.add(key, value)
    if layers.has("data.dataset"):  # if not, the schema will say so
        name = layers.get("data.dataset")
        if not isinstance(name, str) or name not in DATASETS:
            problem = unknown(name, DATASETS, "dataset")
            raise ConfigError(f"{layers.where('data.dataset')}: data.dataset: {problem}")
        for fact, value in DATASETS[name].identity().items():
            layers.add(f"data.{fact}", value)
    return layers
