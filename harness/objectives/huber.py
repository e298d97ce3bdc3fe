"""The reverse Huber loss of depths (Laina et al. 2016, arXiv 1606.00373, Section 3.3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SHARE = 0.2  # of the batch's largest error: where the squares begin


def reverse_huber(predicted: Tensor, depth: Tensor, *, gather: Callable[[Tensor], Tensor]) -> Tensor:
    """1/P sum_p b(x_p), b(x) = |x| if |x| <= c, else (x^2 + c^2) / (2 c), with x = predicted - depth and
    c = 0.2 max |x|, a constant to the gradient.

    The sum is over this rank's pixels with a depth, a positive number; the maximum is over those of all ranks, and P is
    their mean number a rank. `gather` concatenates over the ranks, and the ranks' losses are averaged.
    """
    known = torch.isfinite(depth) & (depth > 0)
    x = (predicted - depth.where(known, predicted.detach())).where(known, 0).abs()
    c = SHARE * gather(x.detach().max()[None]).max()
    c = c.clamp_min(torch.finfo(x.dtype).tiny)  # no error at all: b is 0, and so is its gradient
    loss = torch.where(x <= c, x, (x.square() + c.square()) / (2 * c)).sum()
    pixels = gather(known.sum()[None].to(x.dtype)).mean()
    return loss / pixels.clamp_min(1)
