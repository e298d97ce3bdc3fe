"""The metrics that tables print."""

from __future__ import annotations

from harness.config.metrics import METRICS


def test_chance() -> None:
    """Protects the number that a diverged run gets: guesses over classes, and none where nothing can be guessed."""
    assert METRICS["linear_imagenet.top1"].chance(1000) == 0.1
    assert METRICS["linear_imagenet.top5"].chance(1000) == 0.5
    assert METRICS["linear_imagenet.top5"].chance(3) == 100.0
    assert METRICS["linear_raft.top1"].chance(10) == 10.0
    assert METRICS["pretrain.align"].chance(10) is None


def test_losses_are_better_low() -> None:
    """Protects comparisons: of losses and of depth's errors, less is better."""
    assert {name for name, metric in METRICS.items() if not metric.higher_is_better} == {
        "pretrain.align",
        "pretrain.uniform",
        "depth.rms",
        "depth.rel",
    }
