"""Which evaluations see the same features."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.config.expand import expand
from harness.config.schema import Linear
from harness.launch.companions import companions, stream_of


def test_table_7_goes_in_pairs() -> None:
    """Its four protocols of an encoder are two pairs: with and without pretraining's views, of either loss."""
    specs = expand("7", "imagenet", seeds=1).runs()
    evaluations = {key: spec for key, spec in specs.items() if isinstance(spec, Linear)}
    pairs = companions(specs)
    assert len(evaluations) == 12
    assert pairs.keys() == evaluations.keys()
    for key, (other,) in pairs.items():
        assert pairs[other] == (key,)
        one, its = evaluations[key], evaluations[other]
        assert one != its
        assert replace(one, logit_clip=None, logit_penalty=0.0) == replace(its, logit_clip=None, logit_penalty=0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"logit_clip": 2.0},
        {"logit_penalty": 0.1},
        {"learning_rates": (1.0,)},
        {"momentum": 0.5},
        {"optimizer": "adam"},
        {"evaluation": "other"},
        {"evaluation_version": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_happens_to_features_does_not_part(tiny: tuple[Any, Linear], change: dict[str, Any]) -> None:
    """Loss, learning rates and optimizer are each evaluation's own; so is its name."""
    spec = tiny[1]
    other = replace(spec, **change)
    assert other != spec
    assert companions({"a": spec, "b": other, "c": tiny[0]}) == {"a": ("b",), "b": ("a",)}


@pytest.mark.parametrize(
    "change",
    [{"subject": "other"}, {"seed": 1}, {"epochs": 3}, {"batch": 64}, {"flip": 0.25}, {"image_size": 32}],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_features_parts(tiny: tuple[Any, Linear], change: dict[str, Any]) -> None:
    """Another encoder, other images, another order or other views: nothing can be shared."""
    spec = tiny[1]
    own = spec.__dataclass_fields__.keys() & change.keys()
    other = replace(spec, **change) if own else replace(spec, data=replace(spec.data, **change))
    assert companions({"a": spec, "b": other}) == {}


def test_what_decides_features_is_all_but_what_is_done_to_them() -> None:
    """A field added to the evaluation later has to be thought of here: does it decide features or not?"""
    apart = {
        "kind", "evaluation", "evaluation_version", "learning_rates", "momentum", "optimizer", "logit_clip",
        "logit_penalty",
    }  # fmt: skip
    assert Linear.__dataclass_fields__.keys() - apart == {"subject", "data", "seed", "epochs", "batch"}


def test_three_of_a_kind_keep_their_order(tiny: tuple[Any, Linear]) -> None:
    """Each has all the others, in the order in which they were given; a pretraining has no stream."""
    specs = {name: replace(tiny[1], logit_penalty=penalty) for penalty, name in enumerate("abc")}
    assert companions(specs) == {"a": ("b", "c"), "b": ("a", "c"), "c": ("a", "b")}
    assert stream_of(tiny[0]) is None
