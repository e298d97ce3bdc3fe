"""What classifiers score, in percent: counted where an image has one class, ranked where it has a flag for each."""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol

import torch
from torch import Tensor

from harness.config.datasets import RecordType
from harness.data.errors import DataError
from harness.data.records import DIFFICULT, PRESENT
from harness.training.ranks import Ranks

TOP = (1, 5)
RECALLS = 10  # recall is looked at from 0 to 1 in tenths: 11 points


class Tally(Protocol):
    """Takes the images of a split in parts, each image once."""

    def add(self, rows: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Images that stand at `rows` of the split: (classifiers, B, classes), (B) or (B, classes)."""

    def gather(self, ranks: Ranks) -> None:
        """Take what the other ranks have taken."""

    def results(self) -> list[dict[str, float]]:
        """Of each classifier over all images: its metrics by their short names."""


def tally(record: RecordType, classifiers: int, images: int, classes: int, device: torch.device) -> Tally:
    """For a split of so many images, whose labels are classes or flags."""
    if record == "labels":
        return FlagTally(classifiers, images, classes, device)
    return ClassTally(classifiers, classes, device)


class ClassTally:
    """top1 and top5: the share of images whose class is among the 1 or the 5 highest logits. mean_per_class: the mean
    over classes of the share of their own images that top1 is right about; a class without an image has none, and is
    left out.
    """

    def __init__(self, classifiers: int, classes: int, device: torch.device) -> None:
        self._hits = torch.zeros(classifiers, classes, len(TOP), dtype=torch.int64, device=device)
        self._images = torch.zeros(classes, dtype=torch.int64, device=device)

    def add(self, rows: Tensor, logits: Tensor, labels: Tensor) -> None:  # order is nothing to a count
        self._hits.index_add_(1, labels, hits(logits, labels).long())
        self._images += torch.bincount(labels, minlength=len(self._images))

    def gather(self, ranks: Ranks) -> None:
        self._hits, self._images = ranks.total(self._hits), ranks.total(self._images)

    def results(self) -> list[dict[str, float]]:
        images = self._images.tolist()
        return [_shares(right, images) for right in self._hits.tolist()]


def _shares(right: list[list[int]], images: list[int]) -> dict[str, float]:
    """From the images of each class that the 1 and the 5 highest logits are right about."""
    top1, top5 = (100 * sum(column) / sum(images) for column in zip(*right, strict=True))
    # in whole numbers, so that equal means are equal numbers and the first of them is chosen
    shares = [Fraction(found, total) for (found, _), total in zip(right, images, strict=True) if total]
    return {"top1": top1, "top5": top5, "mean_per_class": float(100 * sum(shares) / len(shares))}


class FlagTally:
    """map11: the 11-point average precision of each class, and their mean."""

    def __init__(self, classifiers: int, images: int, classes: int, device: torch.device) -> None:
        self._logits = torch.zeros(classifiers, images, classes, dtype=torch.float64, device=device)
        self._flags = torch.zeros(images, classes, dtype=torch.int8, device=device)

    def add(self, rows: Tensor, logits: Tensor, labels: Tensor) -> None:
        self._logits[:, rows] = logits.double()
        self._flags[rows] = labels

    def gather(self, ranks: Ranks) -> None:
        # the rows of other ranks are zeros here
        self._logits, self._flags = ranks.total(self._logits), ranks.total(self._flags)

    def results(self) -> list[dict[str, float]]:
        flags = self._flags.cpu()
        return [{"map11": map11(one, flags)} for one in self._logits.cpu()]


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether each label is among the 1 and the 5 highest logits: (..., B, C), (B) -> (..., B, 2).

    A logit that is no number ranks last, so a diverged head scores nothing.
    """
    ranked = torch.nan_to_num(logits, nan=-torch.inf, posinf=-torch.inf)
    k = min(max(TOP), logits.shape[-1])
    right = ranked.topk(k, dim=-1).indices == labels.unsqueeze(-1)
    finite = torch.isfinite(logits).all(dim=-1, keepdim=True)
    right = right & finite
    return torch.stack([right[..., : min(top, k)].any(-1) for top in TOP], dim=-1)


def map11(logits: Tensor, flags: Tensor) -> float:
    """The mean over classes of their average precision in percent: (images, classes) both, flags as records has them.

    As VOC's development kit of 2007 has it: an image in which a class is difficult counts for nothing there, and equal
    logits rank in the order of the images. A class that no image shows has no precision, and is left out.
    """
    counted = (flags == PRESENT).any(0).nonzero().flatten().tolist()
    if not counted:
        raise DataError("no image shows any class, so that there is no precision to average")
    finite = torch.isfinite(logits).all(1)
    return sum(average_precision(logits[:, each], flags[:, each], finite) for each in counted) / len(counted)


def average_precision(logits: Tensor, flags: Tensor, finite: Tensor) -> float:
    """1/11 sum of max precision at recall >= t, for t = 0, 0.1 ... 1, in percent: (images) each.

    An image that is not `finite` is never found, whatever was said of it.
    """
    ranked = torch.where(finite, logits, -torch.inf).argsort(descending=True, stable=True)
    ranked = ranked[flags[ranked] != DIFFICULT]
    present = (flags[ranked] == PRESENT).long()
    found = (present * finite[ranked]).cumsum(0)
    precision = found.double() / torch.arange(1, len(ranked) + 1)
    # recall >= t in whole numbers: 3 of 10 images are a recall of 0.3, which 3 * 0.1 exceeds
    reached = [RECALLS * found >= tenth * present.sum() for tenth in range(RECALLS + 1)]
    best = [float(precision[there].max()) for there in reached if there.any()]
    return 100 * sum(best) / (RECALLS + 1)
