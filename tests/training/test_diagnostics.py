"""The two numbers that tell a living representation from a collapsed one, on inputs whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.training.diagnostics import LAST, RANK_COLLAPSED, STD_COLLAPSED, collapsed, effective_rank, spread


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
