"""What classifiers score over a whole split, on each image's centre crop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from harness.data import augment
from harness.data.batch import Integers
from harness.data.draws import Draws, centre
from harness.data.errors import DataError
from harness.data.labels import labels_of
from harness.data.loader import Loader
from harness.data.prepare import Dataset
from harness.evaluation import metrics
from harness.training.ranks import Ranks
from harness.training.supervision import Supervised

SCORE_BATCH = 256


class Scorer:
    """Each rank looks at its own share of a split."""

    def __init__(self, dataset: Dataset, size: int, device: torch.device, ranks: Ranks, threads: int) -> None:
        self._dataset, self._size, self._device = dataset, size, device
        self._ranks, self._threads = ranks, threads

    def scores(
        self,
        split: str,
        classifiers: int,
        logits: Callable[[Tensor], Tensor],
        apart_from: str | None = None,
    ) -> list[dict[str, float]]:
        """The metrics of each of `classifiers`, by their short names; `logits` are theirs on a batch of views,
        (classifiers, B, C).

        Images that are in `apart_from` too, a split of the same file, are not counted.
        """
        data, plan = self._dataset, self._ranks.plan
        indices = data.indices(split)
        if apart_from is not None:
            indices = np.setdiff1d(indices, data.indices(apart_from))
            if not len(indices):
                raise DataError(f"{data.folder}: every image of {split} is in {apart_from} too; none is left to score")
        loader = Loader(data.beton(split), SCORE_BATCH, self._size, self._threads, self._device)
        rows = torch.arange(len(indices), device=self._device)[plan.rank :: plan.world]
        record = data.facts.record
        tally = metrics.tally(record, classifiers, len(indices), data.classes, self._device)
        try:
            for batch in loader.batches(indices[plan.rank :: plan.world], _centre):
                view = augment.views(batch.crops[0], batch.draws[0], data.mean, data.std, self._threads)
                with torch.no_grad():
                    here = rows[batch.offset.start : batch.offset.stop]
                    tally.add(here, logits(view), labels_of(batch, record))
        finally:
            loader.close()
        tally.gather(self._ranks)
        return tally.results()


def own_accuracy(task: Supervised, scorer: Scorer) -> dict[str, float]:
    """What a network trained on labels scores by its own classifier on the test split: the last update's, unchosen."""
    (found,) = scorer.scores("test", 1, lambda view: task.logits(view)[None])
    return {f"{task.name}.{name}": found[name] for name in ("top1", "top5")}


def _centre(_part: range, _index: Integers, height: Integers, width: Integers) -> tuple[Draws]:
    """The one view of an image on which everything is scored."""
    return (centre(height, width),)
