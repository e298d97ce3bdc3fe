"""BYOL's objective and the InfoNCE family of the paper's Section 5 that joins it to SimCLR's.

Call these in float32 or better, outside autocast: the cosines are divided by a small temperature.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.objectives.sphere import unit


def regression_loss(p: Tensor, z: Tensor) -> Tensor:
    """Equation 2: the mean over the batch of |unit(p) - unit(z)|^2 = 2 - 2 cos(p, z), between 0 and 4."""
    return (2 - 2 * (unit(p) * unit(z)).sum(1)).mean()


def _itself(z: Tensor) -> Tensor:
    return z


def bootstrap_loss(
    p1: Tensor,
    p2: Tensor,
    z1: Tensor,
    z2: Tensor,
    *,
    beta: float,
    temperature: float | None,
    gather: Callable[[Tensor], Tensor] = _itself,
    offset: int = 0,
) -> Tensor:
    """Minus Section 5's InfoNCE, plus 2, summed over both directions. With a = temperature, one direction is

        2 - 2/B sum_i S(v_i, v'_i)
          + beta 2a/B sum_i ln(sum_{j != i} exp(S(v_i, v_j) / a) + sum_j exp(S(v_i, v'_j) / a))

    where S(u1, u2) = cos(phi(u1), psi(u2)). phi is `p` (the prediction, or the online projection without a
    predictor) and psi is `z` (the target side); 1 and 2 are the views. beta = 0 is BYOL's loss, between 0 and
    8; beta = 1 is NT-Xent times 4a (plus 4): the factor gives both the same pull.

    `gather` concatenates z over the ranks that share negatives, with gradient; `offset` is where this rank's
    batch begins in it. The sum over i stays this rank's, so the ranks' losses are averaged, not summed.
    """
    loss = regression_loss(p1, z2) + regression_loss(p2, z1)
    if beta == 0:
        return loss
    if temperature is None:
        raise ValueError("beta is not 0, so there are negatives: they need a temperature")
    keys1, keys2 = gather(z1), gather(z2)
    spread = _log_sum(p1, keys1, keys2, temperature, offset) + _log_sum(p2, keys2, keys1, temperature, offset)
    return loss + beta * 2 * temperature * spread


def _log_sum(p: Tensor, same: Tensor, other: Tensor, temperature: float, offset: int) -> Tensor:
    """Mean over i of ln(sum_{j != i} exp(S(v_i, v_j) / a) + sum_j exp(S(v_i, v'_j) / a))."""
    query = unit(p) / temperature
    within = query @ unit(same).T
    within.diagonal(offset).fill_(-torch.inf)  # an image is not its own negative: j != i
    return torch.cat([within, query @ unit(other).T], dim=1).logsumexp(1).mean()
