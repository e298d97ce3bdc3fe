"""A profile's maps: how the values of recipes and evaluations are carried over from the paper's scale."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from harness.config.errors import ConfigError
from harness.config.files import FieldMap
from harness.config.layers import Layers


def scale(layers: Layers, own: Layers, maps: Mapping[str, Sequence[tuple[FieldMap, str]]], kind: str) -> None:
    """Each key by the first of its maps that is for this cell."""
    cell = layers.copy()  # in the paper's terms
    for key, ways in maps.items():
        for how, where in ways:
            for needed in (key, *how.when):
                if not (layers.has(needed) and own.has(needed)):
                    raise ConfigError(f"{where}: {needed}: no {kind} has this key")
        fitting = (way for way in ways if all(cell.get(name) == wanted for name, wanted in way[0].when.items()))
        if (way := next(fitting, None)) is None:
            continue
        how, where = way
        value = layers.get(key)
        if value is not None or how.value is not None:
            layers.set(key, _carried(value, own.get(key), how, f"{where}: {key}"), where)


def _carried(value: Any, baseline: Any, how: FieldMap, where: str) -> Any:
    """One value of the paper at the profile's scale; `baseline` is the recipe's own."""
    if how.value is not None:
        return how.value
    if isinstance(value, list):
        return [_carried(item, None, how, where) for item in value]
    if how.table is not None:
        if not isinstance(value, Hashable) or value not in how.table:
            raise ConfigError(f"{where}: the table has no entry for {value!r}")
        return how.table[value]
    if not isinstance(value, int | float):
        raise ConfigError(f"{where}: {value!r} is no number; give value or table")
    if how.relative is not None:
        if value and not baseline:
            raise ConfigError(f"{where}: relative needs a recipe's own value that is not {baseline!r}")
        return how.relative * float(value) / float(baseline or 1)  # 0 is 0 at every scale
    if how.factor is not None:
        scaled = value * how.factor
        return max(round(scaled), how.floor) if how.floor is not None else scaled
    assert how.complement is not None, "read_profile lets nothing else through"
    return round(1 - (1 - value) * how.complement, 12)
