"""Table 20's normalisations against Appendix G.6, written out."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from ranks import split

from harness.objectives.distance import EPSILON, distance_loss

Normalization = Literal["layer", "batch", "none"]
NORMALIZATIONS = ("layer", "batch", "none")


def draw(batch: int = 6, features: int = 5) -> list[torch.Tensor]:
    """p1, p2, z1, z2 with means and scales of their own."""
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(4, batch, features, dtype=torch.float64, generator=generator)
    return [3 * (k + 1) * view + k for k, view in enumerate(views)]


def paper(x: np.ndarray, normalization: str) -> np.ndarray:
    """Appendix G.6's n, index by index, with our epsilon on the variance."""
    if normalization == "none":
        return x
    batch, d = x.shape
    y = np.empty_like(x)
    for i in range(batch):
        for j in range(d):
            over = x[i] if normalization == "layer" else x[:, j]
            variance = sum(v**2 for v in over) / len(over) - over.mean() ** 2
            y[i, j] = (x[i, j] - over.mean()) / np.sqrt((variance + EPSILON) * d)
    return y


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_equals_the_paper(normalization: Normalization) -> None:
    """Which axis is normalised, biased variances, the square root of d, sums over dimensions, means over the batch."""
    views = draw()
    p1, p2, z1, z2 = (paper(view.numpy(), normalization) for view in views)
    expected = ((p1 - z2) ** 2).sum(1).mean() + ((p2 - z1) ** 2).sum(1).mean()
    loss = distance_loss(*views, normalization=normalization, gather=lambda x: x)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradcheck(normalization: Normalization) -> None:
    """The gradient runs through the statistics too: finite differences of every input."""
    views = [view.requires_grad_() for view in draw(4, 3)]
    assert torch.autograd.gradcheck(
        lambda *v: distance_loss(*v, normalization=normalization, gather=lambda x: x), views
    )


@pytest.mark.parametrize("normalization", ["layer", "batch"])
def test_scale_and_shift_do_not_matter(normalization: Normalization) -> None:
    """What the normalisation removes; without one, 1000 times longer vectors cost 10^6 times as much."""
    views = draw()

    def loss(factor: float, normalization: Normalization) -> float:
        return distance_loss(*(factor * (v + 7) for v in views), normalization=normalization, gather=lambda x: x).item()

    assert loss(1e3, normalization) == pytest.approx(loss(1, normalization), rel=1e-5)
    assert loss(1e3, "none") == pytest.approx(1e6 * loss(1, "none"))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_collapsed_vectors_are_finite(normalization: Normalization) -> None:
    """Constant predictions have no variance: loss and gradient stay finite."""
    p = torch.full((4, 3), 2.0, requires_grad=True)
    z = torch.randn(4, 3)
    loss = distance_loss(p, p, z, z, normalization=normalization, gather=lambda x: x)
    loss.backward()
    assert loss.isfinite()
    assert p.grad is not None
    assert p.grad.isfinite().all()


def test_a_ranks_own_statistics_are_not_the_groups() -> None:
    """Batch statistics come from `gather`: without it two halves do not make the whole."""
    views = draw()
    parts = [part for part, _, _ in split(views, 2)]
    own = [distance_loss(*part, normalization="batch", gather=lambda x: x).item() for part in parts]
    whole = distance_loss(*views, normalization="batch", gather=lambda x: x).item()
    assert abs(sum(own) / 2 - whole) > 1e-2
