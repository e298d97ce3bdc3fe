"""Every metric that tables print: its name, unit, digits and direction, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """`title` heads a column; `unit` is what the number is in; `guesses` is how many labels may be named at once.

    A number that no guess could get, such as a loss, has no `guesses`. Those that begin with `pretrain.` are of the
    pretraining itself, `views.` and `split.` of configuration, all others of an evaluation. `digits` are significant
    ones of a number of unit 1, and decimals of any other.
    """

    name: str
    title: str
    unit: str
    digits: int
    guesses: int | None = None
    higher_is_better: bool = True

    def text(self, value: float) -> str:
        """The number as tables print it."""
        return f"{value:.{self.digits}{'g' if self.unit == '1' else 'f'}}"

    def chance(self, classes: int) -> float | None:
        """What naming labels at random gets, which is what an encoder that diverged is worth."""
        return None if self.guesses is None else 100.0 * min(self.guesses, classes) / classes


METRICS = {
    metric.name: metric
    for metric in (
        Metric("linear_imagenet.top1", "Top-1", "percent", 1, guesses=1),
        Metric("linear_imagenet.top5", "Top-5", "percent", 1, guesses=5),
        Metric("linear_places365.top1", "Top-1", "percent", 1, guesses=1),
        Metric("linear_raft.top1", "Top-1", "percent", 2, guesses=1),
        Metric("semi.top1", "Top-1", "percent", 1, guesses=1),
        Metric("semi.top5", "Top-5", "percent", 1, guesses=5),
        Metric("finetune.top1", "Top-1", "percent", 1, guesses=1),
        Metric("finetune.top5", "Top-5", "percent", 1, guesses=5),
        Metric("transfer.top1", "Top-1", "percent", 1, guesses=1),
        Metric("transfer.mean_per_class", "Mean per class", "percent", 1, guesses=1),
        Metric("transfer.map11", "11-point mAP", "percent", 1),
        Metric("detection.ap50", "AP50", "percent", 1),
        Metric("segmentation.miou", "mIoU", "percent", 1),
        Metric("depth.pct_1.25", "pct < 1.25", "percent", 1),
        Metric("depth.pct_1.25_2", "pct < 1.25²", "percent", 1),
        Metric("depth.pct_1.25_3", "pct < 1.25³", "percent", 1),
        Metric("depth.rms", "rms", "1", 3, higher_is_better=False),
        Metric("depth.rel", "rel", "1", 3, higher_is_better=False),
        Metric("pretrain.top1", "Top-1", "percent", 1, guesses=1),
        Metric("pretrain.top5", "Top-5", "percent", 1, guesses=5),
        Metric("pretrain.align", "Align", "1", 3, higher_is_better=False),
        Metric("pretrain.uniform", "Uniform", "1", 3, higher_is_better=False),
        Metric("views.t", "T", "share", 1),
        Metric("views.t_prime", "T'", "share", 1),
        Metric("split.classes", "Classes", "count", 0),
        Metric("split.original_train", "Original train", "count", 0),
        Metric("split.train", "Train", "count", 0),
        Metric("split.valid", "Valid", "count", 0),
        Metric("split.test", "Test", "count", 0),
    )
}
