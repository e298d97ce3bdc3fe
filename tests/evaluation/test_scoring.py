"""Accuracy over a split: every image once, on its centre crop, whatever the ranks, against scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score
from torch import Tensor

from harness.data.batch import Batch, Drawer
from harness.data.beton import Beton
from harness.data.prepare import Dataset
from harness.evaluation import scoring
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

    found = Scorer(digits, 16, CPU, Ranks.split(1), 1).accuracies(split, 2, logits)
    truth = Beton(digits.beton(split)).labels[digits.indices(split)]
    assert len(seen) == -(-len(truth) // 256)
    for top, each in zip(found, torch.cat(seen, dim=1).numpy(), strict=True):
        expected = [100 * top_k_accuracy_score(truth, each, k=k, labels=np.arange(10)) for k in (1, 5)]
        assert top == pytest.approx(expected)


@dataclass(frozen=True)
class OneOfMany(Ranks):
    """A rank whose counts are added up by the test, in the place of a process group."""

    def total(self, counts: Tensor) -> Tensor:
        return counts


@dataclass(frozen=True)
class Part:
    """The first images of the digits' test split."""

    whole: Dataset
    images: int

    @property
    def mean(self) -> tuple[float, float, float]:
        return self.whole.mean

    @property
    def std(self) -> tuple[float, float, float]:
        return self.whole.std

    def indices(self, split: str) -> np.ndarray:
        return self.whole.indices(split)[: self.images]

    def beton(self, split: str) -> Path:
        return self.whole.beton(split)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 9), st.integers(1, 300))
def test_every_image_counts_once_under_any_world(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, world: int, images: int
) -> None:
    """Any number of ranks reads each image of a split of any size once, and their counts add up to one rank's."""
    read: list[int] = []

    class Spy(scoring.Loader):
        def batches(self, order: np.ndarray, drawer: Drawer) -> Iterator[Batch]:
            read.extend(order.tolist())
            return super().batches(order, drawer)

    monkeypatch.setattr(scoring, "Loader", Spy)
    part = Part(digits, images)
    weights = torch.randn(1, 3 * 16 * 16, 10, generator=torch.Generator().manual_seed(world))

    def scored(ranks: Ranks) -> np.ndarray:
        scorer = Scorer(part, 16, CPU, ranks, 1)  # type: ignore[arg-type]  # as much of a dataset as it reads
        return np.array(scorer.accuracies("test", 1, lambda view: view.flatten(1) @ weights))

    shares = [scored(OneOfMany(BatchPlan(world, 1, world, rank))) for rank in range(world)]
    assert sorted(read) == sorted(part.indices("test").tolist())
    np.testing.assert_allclose(sum(shares), scored(Ranks.split(1)), rtol=1e-12)
