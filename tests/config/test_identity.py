"""The key of a run: what moves it, what must not, and the keys that are already in people's stores."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.expand import expand
from harness.config.files import profile_names, table_ids
from harness.config.identity import canonical, canonical_json, plain, run_key
from harness.config.schema import Linear, Objective, Pretrain
from harness.config.structure import structure

GOLDEN = Path(__file__).parents[1] / "golden" / "keys"


def _byol() -> Pretrain:
    subject = expand("5b", "imagenet", 1, "byol").members[0].subject
    assert isinstance(subject, Pretrain)
    return subject


BYOL = _byol()


def _objective(**changes: Any) -> str:
    return run_key(replace(BYOL, objective=replace(BYOL.objective, **changes)))


def _keys(table: str, profile: str) -> dict[str, dict[str, dict[str, str]]]:
    """Keys of a table by cell and seed."""
    keys: dict[str, dict[str, dict[str, str]]] = {}
    for member in expand(table, profile).members:
        both = {"subject": member.subject_key, "evaluation": member.evaluation_key}
        keys.setdefault(member.cell, {})[f"seed {member.seed}"] = both
    return keys


def _text(keys: dict[str, dict[str, dict[str, dict[str, str]]]]) -> str:
    """JSON with a line for each cell, for diffs that can be read."""
    profiles = []
    for profile, cells in keys.items():
        lines = ",\n".join(f"  {json.dumps(cell)}: {json.dumps(seeds)}" for cell, seeds in cells.items())
        profiles.append(f" {json.dumps(profile)}: {{\n{lines}\n }}")
    return "{\n" + ",\n".join(profiles) + "\n}\n"


@pytest.mark.parametrize("table", table_ids())
def test_the_keys_of_a_table_stay(table: str) -> None:
    """Protects every result people have: a change of a key is a run they would have to train again.

    After a change that is meant (a recipe, a profile, a new version), write the file anew and look at its diff:
    HARNESS_WRITE_GOLDEN=1 python -m pytest tests/config/test_identity.py
    """
    path = GOLDEN / f"table{table}.json"
    now = {profile: _keys(table, profile) for profile in profile_names()}
    if os.environ.get("HARNESS_WRITE_GOLDEN"):
        path.write_text(_text(now), encoding="utf-8")
    assert now == json.loads(path.read_text(encoding="utf-8")), "keys moved: see this test's docstring"


def test_the_hash_is_what_it_says() -> None:
    """Protects the key from its own code: sha256 of sorted, compact JSON, computed here by other means."""
    import hashlib  # noqa: PLC0415

    text = json.dumps(json.loads(canonical_json(BYOL)), sort_keys=True, separators=(",", ":"))
    assert run_key(BYOL) == hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def test_a_tau_of_one_is_a_constant_target() -> None:
    """Protects sharing of Table 5a's tau = 1 with a target that stays its initial copy."""
    assert _objective(tau_base=1.0) == _objective(target="constant") == _objective(target="constant", tau_base=None)


@pytest.mark.parametrize("target", ["constant", "stop_gradient", "online"])
def test_tau_without_an_average_is_nothing(target: str) -> None:
    """Protects sharing: a knob without effect is no difference."""
    assert _objective(target=target, tau_base=0.5) == _objective(target=target, tau_base=None)
    assert _objective(target=target) != _objective()


def test_other_knobs_without_effect() -> None:
    """Protects sharing of cells without negatives, and of cells without a predictor."""
    assert _objective(temperature=0.1) == _objective(temperature=None)
    assert _objective(beta=1.0, temperature=0.1) != _objective(beta=1.0, temperature=0.2)
    bare = replace(BYOL, objective=replace(BYOL.objective, predictor=False))
    other = replace(bare, model=replace(bare.model, predictor=(8, 256)))
    assert run_key(bare) == run_key(other) == run_key(replace(bare, model=replace(bare.model, predictor=None)))
    assert run_key(bare) != run_key(BYOL)


def test_a_view_of_an_evaluation_is_what_it_adds() -> None:
    """Protects sharing of Table 7's plain rows: crop and flip are the evaluation's; another that adds none is none."""
    plain_one, changed = (
        expand("7", "imagenet", 1, cell).members[0].evaluation for cell in ("r50x1_plain", "r50x1_aug")
    )
    assert isinstance(plain_one, Linear)
    assert isinstance(changed, Linear)
    view = changed.data.view
    assert view is not None

    def key(**other: Any) -> str:
        return run_key(replace(changed, data=replace(changed.data, view=replace(view, **other))))

    assert key(flip=0.1, crop_area=(0.2, 0.9)) == run_key(changed) != key(hue=0.2)
    off = {"jitter": 0.0, "grayscale": 0.0, "blur": 0.0, "solarize": 0.0}
    assert key(**off) == run_key(plain_one) == expand("1a", "imagenet", 1).members[0].evaluation_key


def _leaves(raw: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(raw, dict):
        return [leaf for name, value in raw.items() for leaf in _leaves(value, (*path, name))]
    if isinstance(raw, list):
        return [leaf for index, value in enumerate(raw) for leaf in _leaves(value, (*path, index))]
    return [path]


@pytest.mark.parametrize("cell", ["byol", "pred_ema_beta1"])
def test_every_value_moves_the_key(cell: str) -> None:
    """Protects against a field that the key forgets: two different runs would be taken for one."""
    spec = expand("5b", "imagenet", 1, cell).members[0].subject
    raw = plain(spec)
    seen = {run_key(spec)}
    for *parents, last in (leaf for leaf in _leaves(raw) if leaf[-1] not in ("kind", "name", "norm", "temperature")):
        changed = json.loads(json.dumps(raw))
        inner = changed
        for name in parents:
            inner = inner[name]
        old = inner[last]
        others = {"split": "train", "target": "online"}
        new: Any = others.get(str(last), f"{old}x") if isinstance(old, str) else not old
        inner[last] = new if isinstance(old, bool | str) else old + 1
        key = run_key(structure(Pretrain, changed))
        assert key not in seen, f"{[*parents, last]} does not move the key"
        seen.add(key)


@given(st.randoms())
def test_the_order_of_keys_is_nothing(random: Any) -> None:
    """Protects keys from how a JSON file happens to be written."""

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(name, shuffled(item)) for name, item in value.items()]
            random.shuffle(items)
            return dict(items)
        return value

    assert run_key(structure(Pretrain, shuffled(plain(BYOL)))) == run_key(BYOL)


def test_canonical_is_final() -> None:
    """Protects specs on disk: the canonical form of a canonical form is itself."""
    for member in expand("5b", "laptop").members:
        assert canonical(member.subject) == member.subject
        assert run_key(member.subject) == member.subject_key


def test_a_negative_zero_is_zero() -> None:
    """Protects equal values from two keys."""
    decay = replace(BYOL, optimizer=replace(BYOL.optimizer, weight_decay=0.0))
    assert run_key(decay) == run_key(replace(decay, optimizer=replace(BYOL.optimizer, weight_decay=-0.0)))


@dataclass(frozen=True, kw_only=True)
class Older:
    epochs: int


@dataclass(frozen=True, kw_only=True)
class Newer:
    epochs: int
    trick: bool = field(default=False, metadata={"neutral": False})


def test_a_new_field_at_its_neutral_value_is_left_out() -> None:
    """Protects old keys when the schema grows, and new ones from each other."""
    assert plain(Newer(epochs=3)) == plain(Older(epochs=3)) == {"epochs": 3}
    assert plain(Newer(epochs=3, trick=True)) == {"epochs": 3, "trick": True}
    for value in (Newer(epochs=3), Newer(epochs=3, trick=True)):
        assert structure(Newer, plain(value)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_has_no_key(value: float) -> None:
    """Protects keys from values that JSON writes in ways of its own."""
    with pytest.raises(ValueError, match="has no canonical form"):
        run_key(replace(BYOL, optimizer=replace(BYOL.optimizer, base_lr=value)))


@pytest.mark.parametrize("value", [{1, 2}, [1, 2], Path("x"), b"x", {1: 2}, Objective])
def test_other_types_have_no_key(value: Any) -> None:
    """Protects keys from types whose text may change with a library."""
    with pytest.raises(TypeError, match="canonical form"):
        plain({"value": value})


def test_the_scale_is_identity(edit: Callable[[str, str, str], None]) -> None:
    """Protects the laptop's results from those of another laptop profile, and the paper's from any."""
    before = _keys("5b", "laptop")
    edit("profiles/laptop.yaml", "{300: 40,", "{300: 41,")
    after = _keys("5b", "laptop")
    assert all(
        before[cell][seed] != after[cell][seed] for cell in before if cell != "untrained" for seed in after[cell]
    )
    assert before["untrained"] == after["untrained"], "nothing was trained there"
    imagenet = {runs["subject"] for seeds in _keys("5b", "imagenet").values() for runs in seeds.values()}
    assert not imagenet & {runs["subject"] for seeds in after.values() for runs in seeds.values()}
