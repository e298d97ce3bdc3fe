"""The cross-entropy of smoothed labels against its definition, written out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.objectives.supervised import least_loss, supervised_loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_equals_the_definition(smoothing: float) -> None:
    """Image by image and class by class in plain Python: where the smoothed weight goes, and the mean."""
    logits = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = [0, 4, 2, 2, 1, 3]
    total = 0.0
    for row, label in zip(logits.tolist(), labels, strict=True):
        normaliser = math.log(sum(math.exp(value) for value in row))
        for c, value in enumerate(row):
            total -= ((1 - smoothing) * (c == label) + smoothing / 5) * (value - normaliser)
    assert supervised_loss(logits, torch.tensor(labels), smoothing).item() == pytest.approx(total / 6, rel=1e-12)


@given(st.integers(2, 1000), st.floats(0.01, 0.9), st.integers(0, 100))
def test_no_logits_get_below_the_least(classes: int, smoothing: float, seed: int) -> None:
    """The bound that the first updates are held against: met by the smoothed label itself, and passed by nothing."""
    label = torch.tensor([0])
    q = torch.full((1, classes), smoothing / classes, dtype=torch.float64)
    q[0, 0] += 1 - smoothing
    least = least_loss(classes, smoothing)
    assert supervised_loss(q.log(), label, smoothing).item() == pytest.approx(least, rel=1e-9)
    other = q.log() + 0.1 * torch.randn(q.shape, dtype=q.dtype, generator=torch.Generator().manual_seed(seed))
    assert supervised_loss(other, label, smoothing).item() >= least


def test_without_smoothing_the_least_is_nothing() -> None:
    """A label that is certain costs nothing where it is named."""
    assert least_loss(10, 0.0) == 0
