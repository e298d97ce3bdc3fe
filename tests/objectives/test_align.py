"""The RAFT paper's loss against its Algorithm 1, and its bound on BYOL's."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.objectives.align import align_loss
from harness.objectives.bootstrap import bootstrap_loss


def draw(batch: int = 5, features: int = 4, seed: int = 0) -> list[Tensor]:
    """p1, p2, z1, z2 in float64."""
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(4, batch, features, dtype=torch.float64, generator=generator))


@pytest.mark.parametrize("weight", [-1.0, 1.0, -0.1, 10.0])
def test_equals_algorithm_1(weight: float) -> None:
    """Image by image in plain Python: which view meets which, the half, and the sign of the weight."""
    views = draw()

    def distance(a: list[float], b: list[float]) -> float:
        return sum((x / math.hypot(*a) - y / math.hypot(*b)) ** 2 for x, y in zip(a, b, strict=True))

    total = 0.0
    for p1, p2, z1, z2 in zip(*(view.tolist() for view in views), strict=True):
        total += distance(p1, p2) + weight / 2 * (distance(p1, z1) + distance(p2, z2))
    assert align_loss(*views, cross_model=weight).item() == pytest.approx(total / 5, abs=1e-12)


def test_gradcheck() -> None:
    """Both sides of the alignment, and the target's, agree with finite differences."""
    views = [view.requires_grad_() for view in draw(4, 3)]
    assert torch.autograd.gradcheck(lambda *v: align_loss(*v, cross_model=-1.0), views)


@given(st.integers(0, 10**6), st.floats(0.05, 20))
def test_bounds_byol(seed: int, beta: float) -> None:
    """Theorem 4.1: one direction of BYOL's loss is at most (1 + 1 / beta) times BYOL's upper bound."""
    p1, p2, z1, z2 = draw(seed=seed)
    byol = bootstrap_loss(p1, p2, z1, z2, beta=0.0, temperature=None).item() / 2
    assert byol <= (1 + 1 / beta) * align_loss(p1, p2, z1, z2, cross_model=beta).item() + 1e-12
