"""The recursion of L-BFGS against the matrices that it stands for."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.optim.lbfgs import InverseHessian


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pairs(count: int, size: int) -> list[tuple[Tensor, Tensor]]:
    """Steps, and changes of the gradient of a convex quadratic along them."""
    root = draw(size, size, seed=0)
    return [(step, root @ root.T @ step + step) for step in draw(count, size, seed=1)]


def test_is_the_product_of_the_updates() -> None:
    """Two loops give what the update formula gives as matrices; of the pairs, those beyond the memory are forgotten."""
    diagonal, gradient = draw(6, seed=2).square() + 0.1, draw(6, seed=3)
    inverse = InverseHessian(diagonal, memory=4)
    known = pairs(5, 6)
    for step, change in known:
        inverse.learn(step, change)
    newest_step, newest_change = known[-1]
    scale = newest_step @ newest_change / (newest_change @ (diagonal * newest_change))
    dense = scale * diagonal.diag()
    for step, change in known[1:]:
        rho = 1 / (step @ change)
        left = torch.eye(6, dtype=torch.float64) - rho * torch.outer(step, change)
        dense = left @ dense @ left.T + rho * torch.outer(step, step)
    torch.testing.assert_close(inverse.times(gradient), dense @ gradient, rtol=1e-10, atol=1e-12)


def test_a_pair_against_convexity_is_left_out() -> None:
    """A step along which rounding made the gradient fall would turn the direction uphill."""
    gradient = draw(3, 2, seed=0)
    inverse = InverseHessian(torch.full((3, 2), 0.5, dtype=torch.float64), memory=4)
    inverse.learn(gradient, -gradient)
    torch.testing.assert_close(inverse.times(gradient), gradient / 2)


def test_the_newest_pair_is_met() -> None:
    """The secant condition: H y = s for the newest pair, also of parameters that are a matrix."""
    step, change = draw(3, 4, seed=0), draw(3, 4, seed=1)
    change = change * (step * change).sum().sign()
    inverse = InverseHessian(torch.ones(3, 4, dtype=torch.float64), memory=3)
    inverse.learn(step, change)
    torch.testing.assert_close(inverse.times(change), step)
