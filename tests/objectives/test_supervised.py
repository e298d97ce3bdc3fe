"""The cross-entropies of smoothed labels and of flags against their definitions, written out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.objectives.supervised import flags_loss, least_loss, supervised_loss


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


FLAGS = st.lists(st.lists(st.sampled_from([1, 0, -1]), min_size=3, max_size=3), min_size=1, max_size=6)


@given(FLAGS, st.integers(0, 100))
def test_flags_equal_the_definition(flags: list[list[int]], seed: int) -> None:
    """Image by image and class by class in plain Python: -ln p of a class that is there, -ln(1 - p) of one that is not,
    nothing of one that is difficult; the sum over classes, the mean over images.
    """
    logits = 3 * torch.randn(len(flags), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    total = 0.0
    for row, own in zip(logits.tolist(), flags, strict=True):
        for value, flag in zip(row, own, strict=True):
            p = 1 / (1 + math.exp(-value))
            total -= {1: math.log(p), 0: 0.0, -1: math.log(1 - p)}[flag]
    found = flags_loss(logits, torch.tensor(flags, dtype=torch.int8)).item()
    assert found == pytest.approx(total / len(flags), rel=1e-9, abs=1e-12)


def test_what_is_difficult_moves_nothing() -> None:
    """No gradient reaches the logit of a class that is hard to recognise, and every other logit has one."""
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    flags = torch.tensor([[1, 0, -1], [-1, -1, 0], [0, 0, 0], [1, 1, 1]], dtype=torch.int8)
    flags_loss(logits, flags).backward()  # type: ignore[no-untyped-call]  # torch's
    assert logits.grad is not None
    assert torch.equal(logits.grad == 0, flags == 0)


@pytest.mark.parametrize("size", [1e3, -1e3])
def test_large_logits_of_flags_stay_finite(size: float) -> None:
    """Protects single precision: ln(1 + e^1000) is 1000."""
    loss = flags_loss(torch.full((2, 2), size), torch.tensor([[1, -1], [-1, 0]], dtype=torch.int8))
    assert loss.item() == pytest.approx({1e3: 1000.0, -1e3: 500.0}[size])
