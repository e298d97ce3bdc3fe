"""The unit sphere, on which predictions and targets are compared."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-12  # the release's: below this squared norm a vector is scaled by a constant, so zero stays zero


def unit(x: Tensor) -> Tensor:
    """Every row over its length."""
    return x * torch.rsqrt(x.square().sum(1, keepdim=True).clamp_min(EPSILON))


def tangential(x: Tensor) -> Tensor:
    """`x` itself; of a gradient g that comes back only g - <g, u> u passes, u = unit(x): the part along the sphere.

    On unit vectors it does what the RAFT paper's |z - a x|^2 / a, a = stop_gradient(<z, x>), does to |z - x|^2. A
    gradient that has come through `unit` lies along the sphere already and stays what it is.
    """
    still = x.detach()
    u = unit(still)
    moving = x - still  # 0, with x's gradient
    return still + moving - (moving * u).sum(1, keepdim=True) * u
