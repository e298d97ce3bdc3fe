"""Is the representation alive? Numbers on a batch of vectors, and the rule that flags a collapse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor

STD_COLLAPSED = 0.2
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


def mean_norm(vectors: Tensor) -> float:
    """Mean l2 norm: of the projections, Figure 7's."""
    return float(vectors.detach().double().norm(dim=1).mean())


def alignment(first: Tensor, second: Tensor) -> float:
    """E|u1 - u2|^2 / d over the two views' unit vectors: 0 where views meet, 2 / d where they are independent.

    The RAFT paper defines it without the division, but its tables print it with d = 128: its worst rows read
    0.0156 = 2 / 128.
    """
    u1, u2 = (F.normalize(vectors.detach().double(), dim=1) for vectors in (first, second))
    return float((u1 - u2).square().mean())


def uniformity(vectors: Tensor, t: float = 2.0) -> float:
    """Log of the mean over pairs i != j of exp(-t |u_i - u_j|^2): 0 for a point, near -2t for a sphere of many
    dimensions.
    """
    distances = torch.pdist(F.normalize(vectors.detach().double(), dim=1))
    return float((-t * distances.square()).logsumexp(0)) - math.log(len(distances))


def collapsed(spreads: Sequence[float], ranks: Sequence[float]) -> bool:
    """The flag of a run: over its last diagnostics, directions hardly spread or (almost) on a line."""
    return fmean(spreads[-LAST:]) < STD_COLLAPSED or fmean(ranks[-LAST:]) < RANK_COLLAPSED
