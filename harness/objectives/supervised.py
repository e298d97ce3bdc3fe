"""The cross-entropy of labels, smoothed."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F


def supervised_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """-1/B sum_i sum_c q_ic ln p_ic with p = softmax(logits): q is `smoothing` spread evenly over the classes, and the
    rest on the label.

    The sum over i is this rank's, so the ranks' losses are averaged.
    """
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def least_loss(classes: int, smoothing: float) -> float:
    """The entropy of a smoothed label, which no logits get below."""
    other = smoothing / classes
    label = 1 - smoothing + other
    return -sum(n * q * math.log(q) for n, q in ((1, label), (classes - 1, other)) if q > 0)
