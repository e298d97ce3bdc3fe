"""Every metric that tables print: its name, unit, digits and direction, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """`title` heads a column; `unit` is what the number is in."""

    name: str
    title: str
    unit: str
    digits: int
    higher_is_better: bool = True


METRICS = {
    metric.name: metric
    for metric in (
        Metric("linear_imagenet.top1", "Top-1", "percent", 1),
        Metric("linear_imagenet.top5", "Top-5", "percent", 1),
    )
}
