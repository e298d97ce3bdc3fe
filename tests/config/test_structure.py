"""Plain data into dataclasses: strict, and every mismatch named by its dotted key."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.config.expand import expand
from harness.config.identity import plain, run_key
from harness.config.schema import Linear, Pretrain, RandomEncoder, Spec
from harness.config.structure import StructureError, structure, unknown, yaml_number


@dataclass(frozen=True, kw_only=True)
class Inner:
    number: float = 0.0
    pair: tuple[float, int] = (0.0, 0)


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    count: int
    name: str
    flag: bool
    choice: Literal["a", "b"] = "a"
    several: tuple[int, ...] = ()
    maybe: float | None = None
    table: dict[str, float] | None = None
    either: int | str = 0


GOOD: dict[str, Any] = {"inner": {"number": 1.5}, "count": 1, "name": "x", "flag": True}


def _with(key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {**GOOD, first: {rest: value} if rest else value}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_with("counts", 1), "counts: unknown key 'counts'; did you mean 'count'?"),
        (_with("inner.nmber", 1), "inner.nmber: unknown key 'nmber'; did you mean 'number'?"),
        ({"inner": {}, "count": 1, "name": "x"}, "flag: is missing"),
        (_with("inner", 3), "inner: must be a mapping, not 3"),
        (_with("inner", None), "inner: must be a mapping, not empty"),
        (_with("inner.number", "1e-6"), "inner.number: must be a number, not the text '1e-6'"),
        (_with("inner.number", True), "inner.number: must be a number, not True"),
        (_with("inner.pair", [1.0]), "inner.pair: must have 2 values, not 1"),
        (_with("inner.pair", 1.0), "inner.pair: must be a list, not 1.0"),
        (_with("inner.pair", [1.0, 0.5]), "inner.pair[1]: must be a whole number, not 0.5"),
        (_with("count", 1.0), "count: must be a whole number, not 1.0"),
        (_with("count", False), "count: must be a whole number, not False"),
        (_with("name", 5), "name: must be text, not 5"),
        (_with("flag", 1), "flag: must be true or false, not 1"),
        (_with("flag", "true"), "flag: must be true or false, not the text 'true'"),
        (_with("choice", "c"), "choice: must be one of a, b, not the text 'c'"),
        (_with("choice", ["a"]), "choice: must be one of a, b, not ['a']"),
        (_with("several", [1, "2"]), "several[1]: must be a whole number, not the text '2'"),
        (_with("several", None), "several: must be a list, not empty"),
        (_with("maybe", "x"), "maybe: must be a number, not the text 'x'"),
        (_with("table", {1: 1.0}), "table: must be text, not 1"),
        (_with("table", {"k": None}), "table.k: must be a number, not empty"),
        (_with("either", 1.5), "either: 1.5 fits none of int, str"),
    ],
)
def test_a_mismatch_names_its_key(data: dict[str, Any], message: str) -> None:
    """Protects the sentence a person reads, for every kind of declaration."""
    with pytest.raises(StructureError) as caught:
        structure(Outer, data)
    assert str(caught.value).startswith(message)
    assert caught.value.key == message.partition(":")[0]


def test_a_whole_is_told_apart_by_its_kind() -> None:
    """Protects a spec file of a kind that does not exist from a confusing error about one that does."""
    union: Any = Pretrain | RandomEncoder | Linear
    with pytest.raises(StructureError, match="kind: 'linaer' is no kind of run"):
        structure(union, {"kind": "linaer"})
    with pytest.raises(StructureError, match="encoder: is missing"):
        structure(union, {"kind": "random"})


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_hint_is_a_number_to_yaml(number: float) -> None:
    """Protects the remedy for 1e-6: what we tell people to write, YAML reads as that very number."""
    assert yaml.safe_load(yaml_number(number)) == number


@given(st.text(max_size=12), st.integers(0, 400))
def test_the_hint_never_fails(text: str, exponent: int) -> None:
    """Protects the error itself: any text where a number belongs is a StructureError, however odd."""
    for data in (text, f"1e{exponent}", f"-1.5E-{exponent}"):
        with pytest.raises(StructureError, match=r"^inner.number: must be a number"):
            structure(Outer, _with("inner.number", data))


def test_quoted_numbers() -> None:
    """Protects the remedy where the quotes alone are wrong."""
    with pytest.raises(StructureError, match=r"write 300 without quotes$"):
        structure(Outer, _with("count", "300"))


def test_unknown_names_of_any_type() -> None:
    """Protects the suggestion from keys that are numbers, which YAML allows."""
    assert unknown(1, [1000, "epochs"], "size") == "unknown size '1'; known: 1000, epochs"


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """Specs of every kind, far from the recipes: a baseline whose every leaf is drawn anew."""
    base = draw(st.sampled_from(BASES))
    return _redrawn(draw, base)


def _redrawn(draw: st.DrawFn, value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        hints = get_type_hints(type(value)).items()
        named = {name for name, hint in hints if Literal in (get_origin(hint), *map(get_origin, get_args(hint)))}
        drawn = {f.name: _redrawn(draw, getattr(value, f.name)) for f in fields(value) if f.name not in named}
        return replace(value, **drawn)
    if isinstance(value, tuple):
        return tuple(_redrawn(draw, item) for item in value)
    drawn = {
        bool: st.booleans(),
        int: st.integers(-(2**70), 2**70),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text(max_size=8),
        type(None): st.none(),
    }
    return draw(drawn[type(value)])


BASES: list[Spec] = [
    *expand("5b", "laptop", 1).subjects().values(),
    expand("5b", "imagenet", 1, "byol").members[0].evaluation,
]


@given(specs())
def test_a_spec_survives_json(spec: Spec) -> None:
    """Protects the way of every spec to its worker: what arrives is what was sent, with the same key."""
    union: Any = Pretrain | RandomEncoder | Linear
    arrived = structure(union, json.loads(json.dumps(plain(spec))))
    assert arrived == spec
    assert run_key(arrived) == run_key(spec)


@given(st.integers(1, 10**6))
def test_a_whole_number_is_a_number(value: int) -> None:
    """Protects one key for `beta: 1` and `beta: 1.0`."""
    raw = plain(BASES[0])
    as_int = structure(Pretrain, {**raw, "optimizer": {**raw["optimizer"], "base_lr": value}})
    as_float = structure(Pretrain, {**raw, "optimizer": {**raw["optimizer"], "base_lr": float(value)}})
    assert run_key(as_int) == run_key(as_float)
    assert type(as_int.optimizer.base_lr) is float
