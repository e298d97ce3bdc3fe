"""The losses of a logistic regression as functions of its logits: value, gradient and curvature in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.data.records import ABSENT, DIFFICULT, PRESENT

UNREACHED = 1e30  # in place of a bias without bound: finite in float32 too, where a prediction has to rank it


@dataclass(frozen=True)
class Point:
    """A loss at some logits: its value, its gradient in them (N, C), and the probabilities."""

    value: float
    residual: Tensor
    probability: Tensor


class Loss(Protocol):
    """A sum over images, convex in the logits (N, C) of the classes that have a minimum.

    minimum: those classes, a mask over all. limits: the bias of the others, whose weights are 0.
    """

    minimum: Tensor
    limits: Tensor

    def start(self) -> Tensor:
        """(C,): the biases that are best without weights."""

    def at(self, logits: Tensor) -> Point:
        """The loss at these logits."""

    def curvature(self, point: Point, change: Tensor) -> float:
        """The second derivative along a change of the logits."""

    def variance(self, point: Point) -> Tensor:
        """(C,): the second derivative in a class's logit, mean over the images."""


class OneOfMany:
    """- sum_i log softmax(z_i)[y_i]. A class without an image has no minimum: its logit would fall for ever."""

    def __init__(self, labels: Tensor, classes: int) -> None:
        counts = torch.bincount(labels, minlength=classes)
        self.minimum = counts > 0
        self.limits = torch.full((classes,), -UNREACHED, dtype=torch.float64, device=labels.device)
        self._counts = counts[self.minimum].double()
        self._labels = (self.minimum.cumsum(0) - 1)[labels].unsqueeze(1)  # among the classes that have a minimum

    def start(self) -> Tensor:
        return (self._counts / self._counts.sum()).log()

    def at(self, logits: Tensor) -> Point:
        logs = F.log_softmax(logits, dim=1)
        value = -float(logs.gather(1, self._labels).sum())
        probability = logs.exp_()
        residual = probability.scatter_add(1, self._labels, torch.full_like(self._labels, -1, dtype=logits.dtype))
        return Point(value, residual, probability)

    def curvature(self, point: Point, change: Tensor) -> float:
        first = point.probability * change
        return float((first * change).sum() - first.sum(1).square().sum())

    def variance(self, point: Point) -> Tensor:
        return point.probability.mean(0) - point.probability.square().mean(0)


class EachOfMany:
    """sum_i sum_c of the binary cross-entropy of sigmoid(z_ic), over the flags that are not DIFFICULT.

    A class that is only present, or only absent, has no minimum: its bias would grow for ever.
    """

    def __init__(self, flags: Tensor) -> None:
        present, absent = (flags == PRESENT).sum(0), (flags == ABSENT).sum(0)
        self.minimum = (present > 0) & (absent > 0)
        self.limits = torch.where(present > 0, UNREACHED, -UNREACHED).double()
        self._odds = (present / absent)[self.minimum].double()
        kept = flags[:, self.minimum]
        self._counted, self._present = (kept != DIFFICULT).double(), (kept == PRESENT).double()

    def start(self) -> Tensor:
        return self._odds.log()

    def at(self, logits: Tensor) -> Point:
        value = float((self._counted * F.softplus((1 - 2 * self._present) * logits)).sum())  # exact where it is small
        probability = self._counted * torch.sigmoid(logits)
        return Point(value, probability - self._present, probability)

    def curvature(self, point: Point, change: Tensor) -> float:
        return float((point.probability * (1 - point.probability) * change.square()).sum())

    def variance(self, point: Point) -> Tensor:
        return (point.probability * (1 - point.probability)).mean(0)
