"""The tangential gradient: the RAFT paper's way of getting it, and the theorem that rests on it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from harness.objectives.align import align_loss
from harness.objectives.sphere import tangential, unit

Loss = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]


def points(batch: int = 6, width: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two batches of float64 points off the sphere."""
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, batch, width, dtype=torch.float64, generator=generator)
    return first, second


def test_unit_vectors_have_length_one_and_zero_stays_zero() -> None:
    """The projection onto the sphere, and its finite exception."""
    x, _ = points()
    torch.testing.assert_close(unit(x), torch.nn.functional.normalize(x))
    assert torch.equal(unit(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_tangential_gradient_is_the_papers() -> None:
    """On the sphere, that of |z - a x|^2 / a with a = stop_gradient(<z, x>), orthogonal to x; the value is kept."""
    x, z = (unit(one) for one in points())
    x.requires_grad_()
    a = (x * z).sum(1, keepdim=True).detach()
    (papers,) = torch.autograd.grad(((z - a * x).square() / a).sum(), x)
    assert torch.equal(tangential(x), x)
    (ours,) = torch.autograd.grad((z - tangential(x)).square().sum(), x)
    (plain,) = torch.autograd.grad((z - x).square().sum(), x)
    torch.testing.assert_close(ours, papers, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close((ours * x).sum(1), torch.zeros(6, dtype=torch.float64))
    assert not torch.allclose(plain, papers)


def test_a_gradient_through_unit_is_tangential_already() -> None:
    """Why the paper's Tan variants must end where their plain ones do, up to rounding: unit's Jacobian projects."""
    x, z = points()
    x.requires_grad_()
    (plain,) = torch.autograd.grad((unit(x) - z).square().sum(), x)
    (projected,) = torch.autograd.grad((unit(tangential(x)) - z).square().sum(), x)
    torch.testing.assert_close(projected, plain, rtol=0, atol=1e-13)


def on_the_sphere(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor, cross_model: float) -> Tensor:
    """The loss that runs are trained with."""
    return align_loss(tangential(p1), tangential(p2), z1, z2, cross_model=cross_model)


def off_the_sphere(
    p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor, cross_model: float, project: Callable[[Tensor], Tensor]
) -> Tensor:
    """The cross-model term alone, of predictions that nobody normalises."""
    pairs = ((project(p1), z1), (project(p2), z2))
    return cross_model / 2 * sum((p - z).square().sum(1).mean() for p, z in pairs)


def trained(sign: float, cross_model: float, loss: Loss) -> tuple[Tensor, Tensor]:
    """Encoder parameters and predictor after 20 SGD updates from (theta, sign W), with a moving target."""
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(3)
    encoder = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    W = nn.Parameter(sign * torch.randn(4, 4, dtype=torch.float64, generator=generator))
    teacher = copy.deepcopy(encoder)
    optimizer = torch.optim.SGD([*encoder.parameters(), W], lr=0.2)
    for _ in range(20):
        x1 = torch.randn(8, 5, dtype=torch.float64, generator=generator)
        x2 = x1 + 0.3 * torch.randn(8, 5, dtype=torch.float64, generator=generator)
        with torch.no_grad():
            z1, z2 = unit(teacher(x1)), unit(teacher(x2))
        optimizer.zero_grad()
        loss(unit(encoder(x1)) @ W.T, unit(encoder(x2)) @ W.T, z1, z2, cross_model).backward()
        optimizer.step()
        with torch.no_grad():
            for theirs, ours in zip(teacher.parameters(), encoder.parameters(), strict=True):
                theirs.lerp_(ours, 0.1)
    return torch.cat([p.detach().flatten() for p in encoder.parameters()]), W.detach()


@pytest.mark.parametrize("loss", [on_the_sphere, partial(off_the_sphere, project=tangential)])
def test_raft_and_byol_prime_correspond(loss: Loss) -> None:
    """Theorem 5.1: RAFT from (theta, -W) trains the encoder of BYOL' from (theta, W), and the opposite predictor."""
    theta, W = trained(1.0, 1.0, loss)
    other, opposite = trained(-1.0, -1.0, loss)
    torch.testing.assert_close(other, theta, rtol=0, atol=1e-8)
    torch.testing.assert_close(opposite, -W, rtol=0, atol=1e-8)
    same_start, _ = trained(1.0, -1.0, loss)
    assert (same_start - theta).abs().max() > 1e-2


def test_without_its_third_condition_the_theorem_fails() -> None:
    """Off the sphere the radial gradient tells the two apart: the tangential one is what makes them correspond."""
    loss = partial(off_the_sphere, project=lambda p: p)
    assert (trained(1.0, 1.0, loss)[0] - trained(-1.0, -1.0, loss)[0]).abs().max() > 1e-2
