"""As check.py, for evaluations on images that carry a mask, boxes or depths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from harness.config.check import check_labelled, check_statistics, within
from harness.config.schema import Depth, Detection, SceneData
from harness.config.structure import StructureError


class Updates(Protocol):
    """What trainings by updates have in common."""

    @property
    def data(self) -> SceneData: ...
    @property
    def steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def momentum(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


def check_detection(spec: Detection) -> None:
    """Raise StructureError with the key that is at odds with the rest."""
    check_labelled(spec.data.dataset, "boxes")
    check_updates(spec)
    _check_rate(spec.learning_rate)
    check_drops(spec.drops)
    low, high = spec.edges
    if not 1 <= low <= high:
        raise StructureError("edges", f"must be a range above 0, not {low} to {high}")
    if spec.test_edge < 1:
        raise StructureError("test_edge", f"must be at least 1, not {spec.test_edge}")
    if spec.samples < 1:
        raise StructureError("samples", f"must be at least 1, not {spec.samples}")
    if not 0 <= spec.warmup_steps <= spec.steps:
        raise StructureError("warmup_steps", f"must lie between 0 and the {spec.steps} steps, not {spec.warmup_steps}")
    anchors = spec.anchors
    if not anchors or len(set(anchors)) < len(anchors) or min(anchors) < 1:
        raise StructureError("anchors", f"must name at least one, each once and at least 1, not {list(anchors)}")


def check_depth(spec: Depth) -> None:
    """Likewise."""
    check_labelled(spec.data.dataset, "depth")
    check_updates(spec)
    check_statistics(spec.batch)
    _check_rate(spec.learning_rate)
    for name, most in (("flip", 1.0), ("grayscale", 1.0), ("brightness", math.inf), ("hue", 0.5)):
        within(getattr(spec, name), most, name)
    check_range("saturation", spec.saturation)
    if min(spec.crop) < 1:
        raise StructureError("crop", f"must be at least 1 by 1, not {spec.crop[0]} by {spec.crop[1]}")
    if any(cut > whole for cut, whole in zip(spec.crop, spec.frame, strict=True)):
        problem = f"{spec.crop[0]} by {spec.crop[1]} does not fit into frames of {spec.frame[0]} by {spec.frame[1]}"
        raise StructureError("crop", problem)


def check_updates(spec: Updates) -> None:
    for name in ("steps", "batch"):
        if getattr(spec, name) < 1:
            raise StructureError(name, f"must be at least 1, not {getattr(spec, name)}")
    if not 0 < spec.momentum < 1:
        raise StructureError("momentum", f"must lie between 0 and 1, not {spec.momentum}")
    within(spec.weight_decay, math.inf, "weight_decay")


def check_drops(drops: Sequence[float]) -> None:
    if list(drops) != sorted(set(drops)) or not all(0 < drop < 1 for drop in drops):
        problem = f"must be parts of the steps between 0 and 1, the earliest first and each once, not {list(drops)}"
        raise StructureError("drops", problem)


def check_range(name: str, ends: tuple[float, float]) -> None:
    low, high = ends
    if not 0 < low <= high:
        raise StructureError(name, f"must be a range above 0, not {low} to {high}")


def _check_rate(rate: float) -> None:
    if rate <= 0:
        raise StructureError("learning_rate", f"must be above 0, not {rate}")
