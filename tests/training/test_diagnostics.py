"""The numbers that tell a living representation from a collapsed one, on inputs whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.training.diagnostics import (
    LAST,
    RANK_COLLAPSED,
    STD_COLLAPSED,
    alignment,
    collapsed,
    effective_rank,
    mean_norm,
    spread,
    uniformity,
)


def test_spread_of_even_directions_is_one() -> None:
    """The frame +-e_i covers the sphere evenly; so, nearly, do random directions."""
    frame = torch.cat([torch.eye(16), -torch.eye(16)])
    assert spread(3 * frame) == pytest.approx(1, abs=1e-12)
    noise = torch.randn(20_000, 16, generator=torch.Generator().manual_seed(0))
    assert spread(noise) == pytest.approx(1, abs=0.01)


def test_a_constant_has_neither_spread_nor_rank() -> None:
    """Total collapse: 0, and the rank of a point is 1 rather than an error."""
    same = torch.ones(32, 16) * torch.linspace(0.1, 5, 32)[:, None]  # lengths differ, directions do not
    assert spread(same) == pytest.approx(0, abs=1e-6)
    assert effective_rank(same) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("counts", [(1, 1, 1, 1), (5, 1, 1, 1), (7, 0, 0, 0), (100, 50, 2, 1)])
def test_effective_rank_of_a_known_spectrum(counts: tuple[int, ...]) -> None:
    """+-e_i taken n_i times each has singular values sqrt(2 n_i)."""
    frame = torch.cat([sign * torch.eye(4).repeat_interleave(torch.tensor(counts), 0) for sign in (1, -1)])
    values = np.sqrt([2 * n for n in counts if n])
    p = values / values.sum()
    assert effective_rank(frame) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)


def test_mean_norm_is_of_lengths() -> None:
    """Figure 7's curve: 3-4-5 triangles of any scale, up to the paper's 3e6."""
    assert mean_norm(torch.tensor([[3.0, 4.0], [0.0, 0.0], [6e6, 8e6]])) == pytest.approx((5 + 0 + 1e7) / 3)


def test_alignment_of_independent_views_is_the_papers_worst() -> None:
    """RAFT's Table 3 prints 1.56e-2 where the views have nothing in common: 2 over its 128 dimensions."""
    first, second = torch.randn(2, 20_000, 128, generator=torch.Generator().manual_seed(0))
    assert alignment(first, 9 * second) == pytest.approx(1.56e-2, abs=1e-4)


def test_alignment_tells_views_that_meet_from_those_that_oppose() -> None:
    """0 for one direction at any length, 4 / d for opposite ones; small values survive float32 inputs."""
    z = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    assert alignment(z, 3 * z) == pytest.approx(0, abs=1e-13)
    assert alignment(z, -z) == pytest.approx(4 / 8)


def test_uniformity_equals_the_double_loop() -> None:
    """Log of the mean over ordered pairs i != j of exp(-t |u_i - u_j|^2)."""
    z = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u = (z / z.norm(dim=1, keepdim=True)).numpy()
    for t in (2.0, 0.5):
        pairs = [np.exp(-t * ((u[i] - u[j]) ** 2).sum()) for i in range(9) for j in range(9) if i != j]
        assert uniformity(5 * z, t) == pytest.approx(np.log(np.mean(pairs)), abs=1e-12)


def test_uniformity_of_a_collapse_is_zero_and_of_a_wide_sphere_near_minus_4() -> None:
    """The two ends of the RAFT paper's columns."""
    assert uniformity(torch.ones(32, 16)) == pytest.approx(0, abs=1e-9)
    noise = torch.randn(1000, 512, generator=torch.Generator().manual_seed(0))
    assert uniformity(noise) == pytest.approx(-4, abs=0.05)


@pytest.mark.parametrize(
    ("spread_of", "rank_of", "flag"),
    [
        (1.0, 10.0, False),
        (STD_COLLAPSED * 0.99, 10.0, True),
        (STD_COLLAPSED * 1.01, 10.0, False),
        (1.0, RANK_COLLAPSED * 0.99, True),
        (1.0, RANK_COLLAPSED * 1.01, False),
    ],
)
def test_collapse_is_either_number_below_its_threshold(spread_of: float, rank_of: float, flag: bool) -> None:
    """The flag a table shows beside a cell."""
    assert collapsed([spread_of] * LAST, [rank_of] * LAST) is flag


def test_only_the_end_of_a_run_counts() -> None:
    """A run that recovered is alive; one that died at the end is not."""
    recovered, died = [0.0] * 20 + [1.0] * LAST, [1.0] * 20 + [0.0] * LAST
    assert not collapsed(recovered, [10.0] * len(recovered))
    assert collapsed(died, [10.0] * len(died))
