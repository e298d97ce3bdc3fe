"""The objective against the release's values, a double loop, and the losses it contains."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.objectives.bootstrap import bootstrap_loss, regression_loss

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "reference_loss.npz")
Views = tuple[Tensor, Tensor, Tensor, Tensor]


def draw(batch: int = 5, features: int = 4, seed: int = 0) -> Views:
    """Predictions and targets of two views, float64."""
    generator = torch.Generator().manual_seed(seed)
    p1, p2, z1, z2 = torch.randn(4, batch, features, dtype=torch.float64, generator=generator)
    return p1, p2, z1, z2


def brute_force(views: Views, beta: float, alpha: float) -> float:
    """Section 5's formula, word for word: sums over i and j of plain Python numbers."""
    p1, p2, z1, z2 = (view.tolist() for view in views)

    def s(u: list[float], v: list[float]) -> float:
        dot = sum(a * b for a, b in zip(u, v, strict=True))
        return dot / math.sqrt(sum(a * a for a in u)) / math.sqrt(sum(b * b for b in v))

    size = len(p1)
    total = 0.0
    for p, same, other in ((p1, z1, z2), (p2, z2, z1)):
        for i in range(size):
            negatives = sum(math.exp(s(p[i], same[j]) / alpha) for j in range(size) if j != i)
            negatives += sum(math.exp(s(p[i], other[j]) / alpha) for j in range(size))
            total += 2 - 2 * s(p[i], other[i]) + beta * 2 * alpha * math.log(negatives)
    return total / size


def test_loss_and_gradients_equal_the_release() -> None:
    """BYOL's loss is the sum of both directions and the mean of the batch: half of it costs points."""
    p1, p2, z1, z2 = (
        torch.from_numpy(GOLDEN[f"loss_{side}_view{view}"]).clone()
        for side in ("prediction", "target")
        for view in (1, 2)
    )
    p1.requires_grad_()
    p2.requires_grad_()
    loss = bootstrap_loss(p1, p2, z1, z2, beta=0.0, temperature=None)
    loss.backward()
    assert loss.item() == pytest.approx(float(GOLDEN["loss_value"]), abs=1e-5)
    torch.testing.assert_close(p1.grad, torch.from_numpy(GOLDEN["loss_grad_prediction_view1"]))
    torch.testing.assert_close(p2.grad, torch.from_numpy(GOLDEN["loss_grad_prediction_view2"]))


@pytest.mark.parametrize(("beta", "alpha"), [(0.0, 0.1), (0.3, 0.1), (1.0, 0.1), (1.0, 1.0), (2.0, 0.3)])
def test_equals_the_double_loop(beta: float, alpha: float) -> None:
    """The formula of Section 5, including which views are negatives of which and that j != i."""
    views = draw()
    loss = bootstrap_loss(*views, beta=beta, temperature=alpha)
    assert loss.item() == pytest.approx(brute_force(views, beta, alpha), abs=1e-12)


@given(st.integers(0, 10**6), st.integers(1, 8), st.floats(0.01, 100))
def test_byol_ignores_scale_and_stays_between_0_and_8(seed: int, batch: int, scale: float) -> None:
    """The loss is one of directions: vectors of any length give the same value, in its known range."""
    p1, p2, z1, z2 = draw(batch, 3, seed)
    loss = bootstrap_loss(p1, p2, z1, z2, beta=0.0, temperature=None).item()
    scaled = bootstrap_loss(p1 * scale, p2, z1, z2 / scale, beta=0.0, temperature=None).item()
    assert loss == pytest.approx(scaled, abs=1e-9)
    assert -1e-9 <= loss <= 8 + 1e-9


def test_gradcheck() -> None:
    """Every input's gradient, the targets' included, agrees with finite differences."""
    views = tuple(view.requires_grad_() for view in draw(4, 3))
    assert torch.autograd.gradcheck(lambda *v: bootstrap_loss(*v, beta=0.7, temperature=0.2), views)


def test_small_beta_tends_to_byol() -> None:
    """The family is continuous at beta = 0, where the gradient is BYOL's own to 1e-6."""
    gradients = []
    for beta in (0.0, 1e-9):
        p1, p2, z1, z2 = draw()
        p1.requires_grad_()
        bootstrap_loss(p1, p2, z1, z2, beta=beta, temperature=0.1).backward()
        gradients.append(p1.grad)
    p1, _, _, z2 = draw()
    p1.requires_grad_()
    (2 - 2 * torch.cosine_similarity(p1, z2)).mean().backward()
    torch.testing.assert_close(gradients[0], p1.grad, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-6)


def test_simclr_is_nt_xent_times_its_factor() -> None:
    """SimCLR (beta = 1, no predictor or target): NT-Xent over all 2B views, times 4 * temperature, plus 4."""
    alpha = 0.1
    z1, z2, _, _ = draw(6, 4)
    z = torch.nn.functional.normalize(torch.cat([z1, z2]))
    total = 0.0
    for i in range(12):
        others = [j for j in range(12) if j != i]
        scores = {j: math.exp(float(z[i] @ z[j]) / alpha) for j in others}
        total -= math.log(scores[(i + 6) % 12] / sum(scores.values()))
    loss = bootstrap_loss(z1, z2, z1, z2, beta=1.0, temperature=alpha)
    assert loss.item() == pytest.approx(4 * alpha * total / 12 + 4, abs=1e-12)


@pytest.mark.parametrize("simclr", [True, False])
def test_two_ranks_equal_one(simclr: bool) -> None:
    """Gathered negatives, the rank's offset and the mean over ranks: the whole batch's loss and gradient."""
    whole = [view.requires_grad_() for view in draw(6, 4)]
    p1, p2, z1, z2 = whole[2:] + whole[2:] if simclr else whole
    expected = bootstrap_loss(p1, p2, z1, z2, beta=1.0, temperature=0.2)
    wanted = torch.autograd.grad(expected, whole, allow_unused=True)
    losses = []
    for start in (0, 3):
        part = [view[start : start + 3] for view in (p1, p2, z1, z2)]
        lookup = {id(part[2]): z1, id(part[3]): z2}
        losses.append(
            bootstrap_loss(
                *part,
                beta=1.0,
                temperature=0.2,
                gather=lambda z, lookup=lookup: lookup[id(z)],
                offset=start,
            )
        )
    loss = torch.stack(losses).mean()
    torch.testing.assert_close(loss, expected)
    for got, want in zip(torch.autograd.grad(loss, whole, allow_unused=True), wanted, strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            torch.testing.assert_close(got, want)


def test_zero_vectors_are_finite() -> None:
    """A collapsed network may output zeros: loss and gradient stay finite."""
    p = torch.zeros(3, 4, requires_grad=True)
    z = torch.randn(3, 4)
    loss = bootstrap_loss(p, p, z, z, beta=1.0, temperature=0.1)
    loss.backward()
    assert loss.isfinite()
    assert p.grad is not None
    assert p.grad.isfinite().all()


def test_byol_asks_for_no_negatives() -> None:
    """At beta = 0 the loss neither gathers (a collective on a cluster) nor needs a temperature."""

    def refuse(_: Tensor) -> Tensor:
        raise AssertionError

    p1, p2, z1, z2 = draw()
    loss = bootstrap_loss(p1, p2, z1, z2, beta=0.0, temperature=None, gather=refuse)
    assert loss == regression_loss(p1, z2) + regression_loss(p2, z1)


def test_negatives_without_a_temperature_are_refused() -> None:
    """A missing temperature is an error, not a default."""
    with pytest.raises(ValueError, match="temperature"):
        bootstrap_loss(*draw(), beta=1.0, temperature=None)


def test_regression_loss_is_the_squared_distance_of_unit_vectors() -> None:
    """Equation 2 in both of its forms."""
    p, z, _, _ = draw()
    distance = torch.nn.functional.normalize(p) - torch.nn.functional.normalize(z)
    torch.testing.assert_close(regression_loss(p, z), distance.square().sum(1).mean())
