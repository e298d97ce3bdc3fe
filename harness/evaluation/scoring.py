"""Accuracy over a whole split, on each image's centre crop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from harness.data import augment
from harness.data.batch import Integers
from harness.data.draws import Draws, centre
from harness.data.errors import DataError
from harness.data.loader import Loader
from harness.data.prepare import Dataset
from harness.evaluation import metrics
from harness.training.ranks import Ranks
from harness.training.supervision import Supervised

SCORE_BATCH = 256


class Scorer:
    """Counts what is named rightly, each rank its own share of a split."""

    def __init__(self, dataset: Dataset, size: int, device: torch.device, ranks: Ranks, threads: int) -> None:
        self._dataset, self._size, self._device = dataset, size, device
        self._ranks, self._threads = ranks, threads

    def accuracies(
        self,
        split: str,
        classifiers: int,
        logits: Callable[[Tensor], Tensor],
        apart_from: str | None = None,
    ) -> list[tuple[float, float]]:
        """Top-1 and top-5 of each of `classifiers`; `logits` are theirs on a batch of views, (classifiers, B, C).

        Images that are in `apart_from` too, a split of the same file, are not counted.
        """
        data, plan = self._dataset, self._ranks.plan
        indices = data.indices(split)
        if apart_from is not None:
            indices = np.setdiff1d(indices, data.indices(apart_from))
            if not len(indices):
                raise DataError(f"{data.folder}: every image of {split} is in {apart_from} too; none is left to score")
        loader = Loader(data.beton(split), SCORE_BATCH, self._size, self._threads, self._device)
        counts = torch.zeros(classifiers, len(metrics.TOP), dtype=torch.int64, device=self._device)
        try:
            for batch in loader.batches(indices[plan.rank :: plan.world], _centre):
                view = augment.views(batch.crops[0], batch.draws[0], data.mean, data.std, self._threads)
                with torch.no_grad():
                    counts += metrics.correct(logits(view), batch.label)
        finally:
            loader.close()
        shares = [metrics.percent(row, len(indices)) for row in self._ranks.total(counts)]
        return [(top1, top5) for top1, top5 in shares]


def own_accuracy(task: Supervised, scorer: Scorer) -> dict[str, float]:
    """What a network trained on labels scores by its own classifier on the test split: the last update's, unchosen."""
    ((top1, top5),) = scorer.accuracies("test", 1, lambda view: task.logits(view)[None])
    return {f"{task.name}.top1": top1, f"{task.name}.top5": top5}


def _centre(_part: range, _index: Integers, height: Integers, width: Integers) -> tuple[Draws]:
    """The one view of an image on which everything is scored."""
    return (centre(height, width),)
