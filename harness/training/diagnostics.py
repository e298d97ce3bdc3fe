"""Is the representation alive? Two numbers on a batch of projections, and the rule that flags a collapse."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor

STD_COLLAPSED = 0.25
RANK_COLLAPSED = 1.5
LAST = 5  # diagnostics that the flag averages over


def spread(projections: Tensor) -> float:
    """Mean over dimensions of the standard deviation of z/|z|, times sqrt(d).

    1 when the directions are spread evenly over the sphere, 0 when all projections point the same way.
    """
    z = F.normalize(projections.detach().double(), dim=1)
    return float(z.std(dim=0, correction=0).mean() * z.shape[1] ** 0.5)


def effective_rank(projections: Tensor) -> float:
    """Exp of the entropy of the normalised singular values of the centred z/|z|: 1 for a line, d for a ball."""
    z = F.normalize(projections.detach().double(), dim=1)
    values = torch.linalg.svdvals(z - z.mean(dim=0))
    total = values.sum()
    if total <= 1e-12:  # every projection is the same: not even a line is left
        return 1.0
    p = values / total
    return float(torch.exp(-(p * torch.log(p.clamp_min(1e-300))).sum()))


def collapsed(spreads: Sequence[float], ranks: Sequence[float]) -> bool:
    """The flag of a run: over its last diagnostics, directions hardly spread or (almost) on a line."""
    return fmean(spreads[-LAST:]) < STD_COLLAPSED or fmean(ranks[-LAST:]) < RANK_COLLAPSED
