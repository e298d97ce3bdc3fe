"""The optimal linear predictor of a batch in closed form (BYOL's Appendix J.2), in place of a learned one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CUTOFF = 1e-5  # relative to the largest singular value: weaker ones are near float32's rounding, which 1 / s amplifies


@torch.no_grad()
def optimal_predictor(z: Tensor, target: Tensor) -> Tensor:
    """Q = (Z^T Z)^-1 Z^T Z', which minimises |Z Q - Z'|; the smallest such Q where Z is rank deficient.

    By the singular values of Z itself in float64: Z^T Z would square their ratio.
    """
    finite = z.double().nan_to_num(0, 0, 0)  # the solver refuses a diverged Z; Z Q is not finite all the same
    return (torch.linalg.pinv(finite, rtol=CUTOFF) @ target.double()).to(z.dtype)


def least_squares_prediction(z: Tensor, target: Tensor, *, gather: Callable[[Tensor], Tensor]) -> Tensor:
    """Z Q: online projections of one view mapped onto the target's of the other; no gradient through Q.

    Q is that of all rows that `gather` concatenates over the ranks.
    """
    return z @ optimal_predictor(gather(z.detach()), gather(target.detach()))
