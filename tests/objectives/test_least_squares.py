"""The predictor in closed form against numpy's least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ranks import split
from torch import Tensor

from harness.objectives.least_squares import least_squares_prediction, optimal_predictor


def draw(batch: int, width: int, rank: int | None = None, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Online and target projections; the online ones on `rank` directions, up to rounding."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(batch, rank or width, dtype=torch.float64, generator=generator)
    if rank is not None:
        z = z @ torch.randn(rank, width, dtype=torch.float64, generator=generator)
    return z.to(dtype), torch.randn(batch, width, dtype=torch.float64, generator=generator).to(dtype)


@pytest.mark.parametrize(("batch", "width", "rank"), [(4096, 16, None), (64, 16, None), (4096, 16, 3), (8, 16, None)])
def test_equals_numpy(batch: int, width: int, rank: int | None) -> None:
    """The paper's size, fewer images, projections collapsed onto 3 directions, and fewer images than features."""
    z, target = draw(batch, width, rank)
    expected = np.linalg.lstsq(z.double().numpy(), target.double().numpy(), rcond=1e-5)[0]
    found = optimal_predictor(z, target)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5)


def test_residual_is_orthogonal() -> None:
    """Z^T (Z' - Z Q) = 0: no other linear predictor is closer."""
    z, target = draw(256, 16, dtype=torch.float64)
    residual = target - least_squares_prediction(z, target, gather=lambda x: x)
    torch.testing.assert_close(z.T @ residual, torch.zeros(16, 16, dtype=torch.float64), rtol=0, atol=1e-10)


def test_a_total_collapse_is_finite() -> None:
    """All projections equal, or all zero: the solution is small, not a division by nothing."""
    _, target = draw(64, 16)
    for value in (0.0, 1e-3, 5.0):
        z = torch.full((64, 16), value)
        prediction = least_squares_prediction(z, target, gather=lambda x: x)
        wanted = target.mean(0).expand_as(target) if value else torch.zeros_like(target)
        torch.testing.assert_close(prediction, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_divergence_is_seen_in_the_prediction(value: float) -> None:
    """The solver raises on what is not finite: a diverged run must end by its loss, not by an error of the solver."""
    z, target = draw(64, 4)
    z[3, 1] = value
    assert not least_squares_prediction(z, target, gather=lambda x: x).isfinite().all()


def test_no_gradient_runs_through_the_solution() -> None:
    """The prediction's gradient is that of Z Q with Q a constant, and the target gets none."""
    z, target = (one.requires_grad_() for one in draw(32, 4, dtype=torch.float64))
    weights = torch.randn(32, 4, dtype=torch.float64)
    prediction = least_squares_prediction(z, target, gather=lambda x: x)
    got_z, got_target = torch.autograd.grad((prediction * weights).sum(), (z, target), allow_unused=True)
    torch.testing.assert_close(got_z, weights @ optimal_predictor(z, target).T)
    assert got_target is None


def test_two_ranks_share_one_solution() -> None:
    """Q belongs to the statistics batch: halves that gather predict what the whole does."""
    whole = list(draw(32, 4, dtype=torch.float64))
    parts = [least_squares_prediction(*part, gather=gather) for part, gather, _ in split(whole, 2)]
    torch.testing.assert_close(torch.cat(parts), least_squares_prediction(*whole, gather=lambda x: x))


@pytest.mark.parametrize("rank", [None, 3])
def test_rounding_hardly_moves_the_prediction(rank: int | None) -> None:
    """Two devices differ by float32's rounding: 1e-4 of the prediction, also where that alone gives Z its rank."""
    z, target = draw(4096, 16, rank)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(1)) * z.abs() * torch.finfo(z.dtype).eps
    here, there = (least_squares_prediction(one, target, gather=lambda x: x) for one in (z, z + noise))
    assert not torch.equal(z, z + noise)
    torch.testing.assert_close(there, here, rtol=0, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("rank", [None, 3])
def test_gpu_equals_cpu(rank: int | None) -> None:
    """The same prediction on both devices."""
    z, target = draw(4096, 16, rank)
    here, there = (least_squares_prediction(z.to(d), target.to(d), gather=lambda x: x).cpu() for d in ("cpu", "cuda"))
    torch.testing.assert_close(there, here, rtol=0, atol=1e-4)
