"""Turns plain data (from YAML or JSON) into the frozen dataclasses of the schema, strictly.

Unknown and missing keys, text where a number is declared and values outside a declared choice are errors that name
the dotted key. An int is accepted where a float is declared (1 is 1.0); nothing else is converted.
"""

from __future__ import annotations

import difflib
import functools
import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class StructureError(ValueError):
    """A value does not fit its declaration. `key` is the dotted path of the offending value."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}" if key else problem)
        self.key = key
        self.problem = problem


def structure(cls: type[T], data: object, key: str = "") -> T:
    """Build `cls` from `data`; `key` prefixes the names in errors."""
    value: T = _convert(cls, data, key)
    return value


def unknown(name: object, known: Iterable[object], what: str = "key") -> str:
    """One sentence for a name nobody declared, with the nearest declared one."""
    names = [str(one) for one in known]
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"
    return f"unknown {what} '{name}'; {hint}"


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _dataclass(cls: type, data: object, key: str) -> Any:
    if not isinstance(data, Mapping):
        raise StructureError(key, f"must be a mapping, not {_shown(data)}")
    declared = {field.name: field for field in fields(cls)}
    prefix = f"{key}." if key else ""
    for name in data:
        if name not in declared:
            raise StructureError(f"{prefix}{name}", unknown(name, declared))
    values = {}
    for name, field in declared.items():
        if name in data:
            values[name] = _convert(_hints(cls)[name], data[name], f"{prefix}{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise StructureError(f"{prefix}{name}", "is missing")
    return cls(**values)


def _tuple(hint: Any, data: object, key: str) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise StructureError(key, f"must be a list, not {_shown(data)}")
    of = get_args(hint)
    if of[-1] is Ellipsis:
        return tuple(_convert(of[0], item, f"{key}[{i}]") for i, item in enumerate(data))
    if len(of) != len(data):
        raise StructureError(key, f"must have {len(of)} values, not {len(data)}")
    return tuple(_convert(one, item, f"{key}[{i}]") for i, (one, item) in enumerate(zip(of, data, strict=True)))


def _mapping(hint: Any, data: object, key: str) -> dict[Any, Any]:
    if not isinstance(data, Mapping):
        raise StructureError(key, f"must be a mapping, not {_shown(data)}")
    of_key, of_value = get_args(hint)
    return {_convert(of_key, k, key): _convert(of_value, v, f"{key}.{k}") for k, v in data.items()}


def _union(hint: Any, data: object, key: str) -> Any:
    options = get_args(hint)
    if data is None and type(None) in options:
        return None
    rest = [option for option in options if option is not type(None)]
    if len(rest) == 1:
        return _convert(rest[0], data, key)
    if isinstance(data, Mapping) and all(map(_has_kind, rest)):
        for option in rest:
            if data.get("kind") in get_args(_hints(option)["kind"]):
                return _convert(option, data, key)
        raise StructureError(f"{key}.kind" if key else "kind", f"{data.get('kind')!r} is no kind of run")
    for option in rest:
        try:
            return _convert(option, data, key)
        except StructureError:
            continue
    raise StructureError(key, f"{_shown(data)} fits none of {', '.join(getattr(o, '__name__', str(o)) for o in rest)}")


def _has_kind(option: Any) -> bool:
    """Whether it is a dataclass that its `kind` tells apart from others."""
    return isinstance(option, type) and is_dataclass(option) and "kind" in _hints(option)


def _literal(hint: Any, data: object, key: str) -> object:
    if data not in get_args(hint) or isinstance(data, bool):
        raise StructureError(key, f"must be one of {', '.join(map(str, get_args(hint)))}, not {_shown(data)}")
    return data


def _convert(hint: Any, data: object, key: str) -> Any:
    if hint is Any:
        return data
    if is_dataclass(hint):
        return _dataclass(hint, data, key)  # type: ignore[arg-type]  # is_dataclass also admits instances
    by_origin = {Literal: _literal, tuple: _tuple, dict: _mapping, Union: _union, types.UnionType: _union}
    return by_origin.get(get_origin(hint), _scalar)(hint, data, key)


def _scalar(hint: Any, data: object, key: str) -> Any:
    if hint is float:
        if isinstance(data, int | float) and not isinstance(data, bool):
            return float(data)
        raise StructureError(key, f"must be a number, not {_shown(data)}{_number_hint(data)}")
    if hint is int:
        if isinstance(data, int) and not isinstance(data, bool):
            return data
        raise StructureError(key, f"must be a whole number, not {_shown(data)}{_number_hint(data)}")
    if isinstance(data, hint):
        return data
    names = {bool: "true or false", str: "text"}
    raise StructureError(key, f"must be {names.get(hint, hint)}, not {_shown(data)}")


def _number_hint(data: object) -> str:
    """How to write a number that YAML 1.1 reads as text: 1e-6 lacks the point, 1.0e6 the sign."""
    try:
        number = float(data) if isinstance(data, str) else math.nan
    except ValueError:
        return ""
    if not math.isfinite(number):
        return ""
    written = str(int(number)) if number.is_integer() and abs(number) < 1e15 else yaml_number(number)
    return f"; YAML reads {data} as text here, write {written}{' without quotes' if written == data else ''}"


def yaml_number(number: float) -> str:
    """A finite float as YAML 1.1 reads it back."""
    mantissa, e, exponent = repr(number).partition("e")
    return f"{mantissa}.0e{exponent}" if e and "." not in mantissa else mantissa + e + exponent


def _shown(data: object) -> str:
    if data is None:
        return "empty"
    return f"the text '{data}'" if isinstance(data, str) else f"{data!r}"
