"""Tables 6 and 10 describe the protocol: ours is no result of a run.

Of Table 6 it is read from what runs are configured with, of Table 10 counted on the datasets that are prepared.
"""

from __future__ import annotations

from dataclasses import fields

from harness.config.files import named_file, read_as
from harness.config.schema import View, Views
from harness.reporting.prepared import Prepared

Described = dict[tuple[str, str], float]  # by cell and metric

CONFIGURED, COUNTED = "6", "10"  # the two tables

# Table 10's datasets; VOC 2007 stands in it once, for classification and for detection.
DATASETS_COUNTED = (
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


def described_cells(table: str) -> tuple[str, ...]:
    """The cells whose number is no result; none of any other table."""
    if table == COUNTED:
        return DATASETS_COUNTED
    return tuple(dict.fromkeys(cell for cell, _ in _views())) if table == CONFIGURED else ()


def described(table: str, prepared: Prepared) -> Described:
    """Ours of Table 6 or Table 10; nothing for any other table."""
    if table == COUNTED:
        return dict(prepared.counts)
    return _views() if table == CONFIGURED else {}


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
