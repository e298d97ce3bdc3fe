"""Accuracy over a split: every image once, on its centre crop, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score
from torch import Tensor

from harness.data.beton import Beton
from harness.data.prepare import Dataset
from harness.evaluation.scoring import Scorer
from harness.training.ranks import Ranks


@pytest.mark.parametrize("split", ["valid", "test"])
def test_scores_are_scikit_learns(split: str, digits: Dataset) -> None:
    """Two classifiers over a split of more than one batch, in the split's order."""
    seen: list[Tensor] = []
    weights = torch.randn(2, 3 * 16 * 16, 10, generator=torch.Generator().manual_seed(0))

    def logits(view: Tensor) -> Tensor:
        seen.append(view.flatten(1) @ weights)
        return seen[-1]

    found = Scorer(digits, 16, torch.device("cpu"), Ranks.split(1), 1).accuracies(split, 2, logits)
    truth = Beton(digits.beton(split)).labels[digits.indices(split)]
    assert len(seen) == -(-len(truth) // 256)
    for top, given in zip(found, torch.cat(seen, dim=1).numpy(), strict=True):
        expected = [100 * top_k_accuracy_score(truth, given, k=k, labels=np.arange(10)) for k in (1, 5)]
        assert top == pytest.approx(expected)
