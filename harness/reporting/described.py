"""Tables 6 and 10 describe the protocol: ours is read from what runs are configured with, not from runs."""

from __future__ import annotations

from dataclasses import fields

from harness.config.datasets import DATASETS, Facts
from harness.config.files import named_file, read_as
from harness.config.schema import View, Views

Described = dict[tuple[str, str], float]  # by cell and metric

# Table 10's datasets; VOC 2007 stands in it once, for classification and for detection.
TABLE_10 = (
    "imagenet",
    "food101",
    "cifar10",
    "cifar100",
    "birdsnap",
    "sun397",
    "cars",
    "aircraft",
    "voc2007",
    "voc2012",
    "dtd",
    "pets",
    "caltech101",
    "places365",
    "flowers",
)
OWNERS_VALID = ("official", "partition-1")  # split ids of datasets whose owner gives a valid split


def described(table: str) -> Described:
    """Ours of Table 6 or Table 10; nothing for any other table."""
    return {"6": _views, "10": _splits}.get(table, dict)()


def _views() -> Described:
    """experiments/views/byol.yaml. No view is without its crop, so that its probability is 1."""
    views = read_as(Views, named_file("views", "byol"))
    return {
        (name, metric): value
        for metric, view in (("views.t", views.first), ("views.t_prime", views.second))
        for name, value in {"crop": 1.0, **_shares(view)}.items()
    }


def _shares(view: View) -> dict[str, float]:
    values = {one.name: getattr(view, one.name) for one in fields(view)}
    return {name: value for name, value in values.items() if isinstance(value, float)}


def _splits() -> Described:
    return {
        (name, f"split.{what}"): float(count) for name in TABLE_10 for what, count in _counts(DATASETS[name]).items()
    }


def _counts(facts: Facts) -> dict[str, int]:
    """Where the valid split is not the owner's, it was taken from the owner's train split."""
    owners = "train" if facts.split_id in OWNERS_VALID else "train+valid"
    return {
        "classes": facts.classes,
        "original_train": facts.images(owners),
        "train": facts.images("train"),
        "valid": facts.images("valid"),
        "test": facts.images("test"),
    }
