"""Accuracies against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score

from harness.evaluation import metrics


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(6, 20), st.integers(1, 40))
def test_counts_are_scikit_learns(seed: int, classes: int, images: int) -> None:
    """Top-1 and top-5 of several heads at once, each against an independent implementation."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(3, images, classes))
    labels = generator.integers(0, classes, images)
    found = metrics.correct(torch.from_numpy(logits), torch.from_numpy(labels))
    for head in range(3):
        for column, k in enumerate(metrics.TOP):
            expected = top_k_accuracy_score(labels, logits[head], k=k, labels=range(classes), normalize=False)
            assert int(found[head, column]) == expected


def test_fewer_classes_than_five() -> None:
    """With three classes every label is among the best five."""
    logits, labels = torch.randn(7, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    assert metrics.correct(logits, labels)[1] == 7


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_number_scores_nothing(value: float) -> None:
    """A diverged head is right about no image, whichever of its logits went first; its neighbour is unharmed."""
    labels = torch.arange(6)
    good = torch.eye(6) + 0.1
    for place in range(6):
        bad = good.clone()
        bad[:, place] = value
        bad_counts, good_counts = metrics.correct(torch.stack([bad, good]), labels)
        assert bad_counts.tolist() == [0, 0]
        assert good_counts[0] == 6


def test_percent() -> None:
    """Counts become percent of all images, not of a batch."""
    assert metrics.percent(torch.tensor([1, 3]), 8) == [12.5, 37.5]
