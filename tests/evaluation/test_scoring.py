"""Accuracy over a split: every image once, on its centre crop, whatever the ranks, against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from torch import Tensor

from harness.data.batch import Batch, Drawer
from harness.data.beton import Beton
from harness.data.prepare import Dataset
from harness.data.records import ABSENT, PRESENT, decode_labels
from harness.evaluation import metrics, scoring
from harness.evaluation.scoring import Scorer
from harness.training.batch_plan import BatchPlan
from harness.training.ranks import Ranks

CPU = torch.device("cpu")


@pytest.mark.parametrize("split", ["valid", "test"])
def test_scores_are_scikit_learns(split: str, digits: Dataset) -> None:
    """Two classifiers over a split of more than one batch, in the split's order."""
    seen: list[Tensor] = []
    weights = torch.randn(2, 3 * 16 * 16, 10, generator=torch.Generator().manual_seed(0))

    def logits(view: Tensor) -> Tensor:
        seen.append(view.flatten(1) @ weights)
        return seen[-1]

    found = Scorer(digits, 16, CPU, Ranks.split(1), 1).scores(split, 2, logits)
    truth = Beton(digits.beton(split)).labels[digits.indices(split)]
    assert len(seen) == -(-len(truth) // 256)
    for scores, each in zip(found, torch.cat(seen, dim=1).numpy(), strict=True):
        expected = [100 * top_k_accuracy_score(truth, each, k=k, labels=np.arange(10)) for k in (1, 5)]
        assert [scores["top1"], scores["top5"]] == pytest.approx(expected)
        assert scores["mean_per_class"] == pytest.approx(100 * balanced_accuracy_score(truth, each.argmax(1)))


class Sums:
    """Adds what all ranks bring, one collective after another."""

    def __init__(self) -> None:
        self._brought: dict[int, list[Tensor]] = {}
        self._given: dict[int, int] = {}
        self.all_brought = False

    def of(self, rank: int, mine: Tensor) -> Tensor:
        """The sum of the ranks' values, when all have brought theirs; something of that shape before."""
        if not self.all_brought:
            self._brought.setdefault(rank, []).append(mine.clone())
            return torch.ones_like(mine)
        place = self._given.get(rank, 0)
        self._given[rank] = place + 1
        return torch.stack([values[place] for values in self._brought.values()]).sum(0, dtype=mine.dtype)


@dataclass(frozen=True)
class Simulated(Ranks):
    """One of many ranks, which come one after another in the test's own process."""

    sums: Sums = field(default_factory=Sums)

    def total(self, counts: Tensor) -> Tensor:
        return self.sums.of(self.plan.rank, counts)


def together(world: int, score: Callable[[Ranks], list[dict[str, float]]]) -> list[list[dict[str, float]]]:
    """What each of `world` ranks finds. Each comes twice: to bring its values, and to take the sums."""
    sums = Sums()
    ranks = [Simulated(BatchPlan(world, 1, world, rank), sums=sums) for rank in range(world)]
    for each in ranks:
        score(each)
    sums.all_brought = True
    return [score(each) for each in ranks]


@dataclass(frozen=True)
class Part:
    """The first images of a dataset's test split."""

    whole: Dataset
    images: int

    def __getattr__(self, name: str) -> Any:
        """All else is the dataset's."""
        return getattr(self.whole, name)

    def indices(self, split: str) -> np.ndarray:
        """Of the first images alone."""
        return self.whole.indices(split)[: self.images]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 9), st.integers(1, 300))
def test_every_image_counts_once_under_any_world(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, world: int, images: int
) -> None:
    """Any number of ranks reads each image of a split of any size once, and all find what one finds alone."""
    read: list[int] = []

    class Spy(scoring.Loader):
        def batches(self, order: np.ndarray, drawer: Drawer) -> Iterator[Batch]:
            read.extend(order.tolist())
            return super().batches(order, drawer)

    part = Part(digits, images)
    weights = torch.randn(1, 3 * 16 * 16, 10, generator=torch.Generator().manual_seed(world))

    def scored(ranks: Ranks) -> list[dict[str, float]]:
        scorer = Scorer(part, 16, CPU, ranks, 1)  # type: ignore[arg-type]  # as much of a dataset as it reads
        return scorer.scores("test", 1, lambda view: view.flatten(1) @ weights)

    alone = scored(Ranks.split(1))
    monkeypatch.setattr(scoring, "Loader", Spy)
    found = together(world, scored)
    assert sorted(read) == sorted(2 * part.indices("test").tolist())
    for each in found:
        assert each[0] == pytest.approx(alone[0], rel=1e-12)


@pytest.mark.ffcv
def test_flags_are_ranked_over_the_images_of_all_ranks(voc: Dataset) -> None:
    """VOC's precision is of one list of all images, in the split's order, however they were shared out."""
    weights = torch.randn(1, 3 * 16 * 16, 5, generator=torch.Generator().manual_seed(0))
    said: list[Tensor] = []

    def scored(ranks: Ranks) -> list[dict[str, float]]:
        def logits(view: Tensor) -> Tensor:
            said.append((view.flatten(1) @ weights).round())  # so that some are equal
            return said[-1]

        return Scorer(voc, 16, CPU, ranks, 1).scores("test", 1, logits)

    alone = scored(Ranks.split(1))
    stored = Beton(voc.beton("test"))
    flags = np.stack([decode_labels(stored.target(int(position))) for position in voc.indices("test")])
    assert {PRESENT, ABSENT} <= set(flags.flatten())
    (all_said,) = torch.cat(said, dim=1)
    assert alone == [{"map11": metrics.map11(all_said, torch.from_numpy(flags))}]
    for world in (2, 3):
        assert together(world, scored) == [alone] * world
