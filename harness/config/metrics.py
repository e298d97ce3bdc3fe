"""Every metric that tables print: its name, unit, digits and direction, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """`title` heads a column; `unit` is what the number is in; `guesses` is how many labels may be named at once."""

    name: str
    title: str
    unit: str
    digits: int
    guesses: int
    higher_is_better: bool = True

    def chance(self, classes: int) -> float:
        """What naming labels at random gets, which is what an encoder that diverged is worth."""
        return 100.0 * min(self.guesses, classes) / classes


METRICS = {
    metric.name: metric
    for metric in (
        Metric("linear_imagenet.top1", "Top-1", "percent", 1, guesses=1),
        Metric("linear_imagenet.top5", "Top-5", "percent", 1, guesses=5),
    )
}
