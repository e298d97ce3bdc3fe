"""Every metric that tables print: its name, unit, digits and direction, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """`title` heads a column; `unit` is what the number is in; `guesses` is how many labels may be named at once.

    A number that no guess could get, such as a loss, has no `guesses`. Those that begin with `pretrain.` are of the
    pretraining itself, all others of an evaluation. `digits` are decimals of a percentage, and significant ones of a
    number of unit 1.
    """

    name: str
    title: str
    unit: str
    digits: int
    guesses: int | None = None
    higher_is_better: bool = True

    def text(self, value: float) -> str:
        """The number as tables print it."""
        return f"{value:.{self.digits}f}" if self.unit == "percent" else f"{value:.{self.digits}g}"

    def chance(self, classes: int) -> float | None:
        """What naming labels at random gets, which is what an encoder that diverged is worth."""
        return None if self.guesses is None else 100.0 * min(self.guesses, classes) / classes


METRICS = {
    metric.name: metric
    for metric in (
        Metric("linear_imagenet.top1", "Top-1", "percent", 1, guesses=1),
        Metric("linear_imagenet.top5", "Top-5", "percent", 1, guesses=5),
        Metric("linear_raft.top1", "Top-1", "percent", 2, guesses=1),
        Metric("pretrain.align", "Align", "1", 3, higher_is_better=False),
        Metric("pretrain.uniform", "Uniform", "1", 3, higher_is_better=False),
    )
}
