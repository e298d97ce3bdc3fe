"""The reverse Huber loss against its formula one pixel at a time, and its edges."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.objectives.huber import reverse_huber


def alone(x: Tensor) -> Tensor:
    """One rank."""
    return x


def draw(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predictions and depths of four images, some pixels without one: 0, as NYU has it, or no number."""
    generator = torch.Generator().manual_seed(seed)
    depth = 10 * torch.rand(4, 5, 3, dtype=torch.float64, generator=generator)
    predicted = depth + torch.randn(4, 5, 3, dtype=torch.float64, generator=generator)
    gaps = torch.rand(4, 5, 3, generator=generator)
    depth[gaps < 0.2] = 0
    depth[gaps > 0.9] = torch.nan
    predicted[gaps < 0.2] = 100  # where there is no depth the error would be the largest
    return predicted, depth


def written_out(predicted: list[float], depth: list[float]) -> float:
    """Laina et al.'s equation (2) with c = max |x| / 5, mean over the pixels with a depth."""
    errors = [abs(p - d) for p, d in zip(predicted, depth, strict=True) if math.isfinite(d) and d > 0]
    c = max(errors) / 5
    return sum(x if x <= c else (x * x + c * c) / (2 * c) for x in errors) / len(errors)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_equals_the_paper(seed: int) -> None:
    """Both branches, the largest error of the whole batch, and pixels without a depth in neither mean nor maximum."""
    predicted, depth = draw(seed)
    loss = reverse_huber(predicted, depth, gather=alone)
    expected = written_out(predicted.flatten().tolist(), depth.flatten().tolist())
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_by_hand() -> None:
    """Errors of 0.5, 1, 2 and 5: c is 1, so that they cost 0.5, 1, 2.5 and 13."""
    predicted, depth = torch.tensor([1.5, 3.0, 1.0, 9.0]), torch.tensor([1.0, 4.0, 3.0, 4.0])
    assert reverse_huber(predicted, depth, gather=alone).item() == pytest.approx((0.5 + 1 + 2.5 + 13) / 4)


def test_the_gradient_is_the_formulas_with_c_constant() -> None:
    """sign(x) up to c and x / c beyond, over the number of pixels; none where there is no depth."""
    predicted, depth = draw()
    predicted.requires_grad_()
    reverse_huber(predicted, depth, gather=alone).backward()
    known = torch.isfinite(depth) & (depth > 0)
    x = (predicted.detach() - depth)[known]
    c = x.abs().max() / 5
    expected = torch.where(x.abs() <= c, x.sign(), x / c) / known.sum()
    assert predicted.grad is not None
    torch.testing.assert_close(predicted.grad[known], expected)
    assert not predicted.grad[~known].any()


def test_the_mean_over_ranks_is_the_whole_batchs() -> None:
    """The largest error and the number of pixels are all ranks': loss and gradient are those of one rank."""
    predicted, depth = draw()
    predicted.requires_grad_()
    whole = reverse_huber(predicted, depth, gather=alone)
    (expected,) = torch.autograd.grad(whole, predicted)
    known = torch.isfinite(depth) & (depth > 0)
    error = (predicted.detach() - depth).where(known, 0).abs()
    gathered = [torch.stack([part.max() for part in error.split(2)]), torch.stack([k.sum() for k in known.split(2)])]
    assert gathered[0][0] != gathered[0][1]
    assert gathered[1][0] != gathered[1][1]
    losses = []
    for part, truth in zip(predicted.split(2), depth.split(2), strict=True):
        answers = iter(gathered)
        losses.append(reverse_huber(part, truth, gather=lambda x, answers=answers: next(answers).to(x.dtype)))
    loss = torch.stack(losses).mean()
    torch.testing.assert_close(loss, whole)
    torch.testing.assert_close(torch.autograd.grad(loss, predicted)[0], expected)


@pytest.mark.parametrize("truth", [2.0, 0.0, torch.nan])
def test_no_error_and_no_depth_cost_nothing(truth: float) -> None:
    """Nothing is divided by a c of 0: loss and gradient are 0."""
    predicted = torch.full((2, 3, 3), 2.0, requires_grad=True)
    loss = reverse_huber(predicted, torch.full((2, 3, 3), truth), gather=alone)
    loss.backward()
    assert loss.item() == 0
    assert predicted.grad is not None
    assert not predicted.grad.any()
