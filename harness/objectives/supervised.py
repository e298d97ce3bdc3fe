"""The cross-entropy of labels, smoothed, and that of one flag a class."""

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


def flags_loss(logits: Tensor, flags: Tensor) -> Tensor:
    """1/B sum_i sum_c ln(1 + exp(-y_ic x_ic)) with flags y of 1 and -1; where y is 0 (difficult), a class is left out.

    These are binary cross-entropies of sigmoid(x), one a class. The sum over i is this rank's, as above.
    """
    counted, present = (flags != 0).to(logits.dtype), (flags > 0).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, present, counted, reduction="sum") / len(logits)


def least_loss(classes: int, smoothing: float) -> float:
    """The entropy of a smoothed label, which no logits get below."""
    other = smoothing / classes
    label = 1 - smoothing + other
    return -sum(n * q * math.log(q) for n, q in ((1, label), (classes - 1, other)) if q > 0)
