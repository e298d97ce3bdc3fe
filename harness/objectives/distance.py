"""BYOL's squared distance with the normalisations of the paper's Table 20 (Appendix G.6) in place of l2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-5  # on the variances, as in the networks' own batch norm; the paper writes none


def distance_loss(
    p1: Tensor,
    p2: Tensor,
    z1: Tensor,
    z2: Tensor,
    *,
    normalization: Literal["layer", "batch", "none"],
    gather: Callable[[Tensor], Tensor],
) -> Tensor:
    """1/B sum_i |n(p_i) - n(z'_i)|^2, summed over both directions.

    n is layer or batch norm without parameters over sqrt(d), so that vectors have a length of 1 (layer) or of 1 in the
    mean square (batch), or nothing. Batch statistics, each tensor its own, are those of `gather`'s result, with
    gradient: it concatenates over the ranks that share them, and the ranks' losses are averaged.
    """

    def n(x: Tensor) -> Tensor:
        if normalization == "none":
            return x
        width = x.shape[1]
        if normalization == "layer":
            return F.layer_norm(x, (width,), eps=EPSILON) / width**0.5
        variance, mean = torch.var_mean(gather(x), 0, correction=0)
        return (x - mean) * torch.rsqrt(width * (variance + EPSILON))

    return _squared(n(p1), n(z2)) + _squared(n(p2), n(z1))


def _squared(p: Tensor, z: Tensor) -> Tensor:
    return (p - z).square().sum(1).mean()
