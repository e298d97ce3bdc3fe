"""The losses of the RAFT paper: the two views meet, while the online network runs to its target or away from it."""

from __future__ import annotations

from torch import Tensor

from harness.objectives.bootstrap import regression_loss


def align_loss(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor, *, cross_model: float) -> Tensor:
    """E|p1 - p2|^2 + cross_model (E|p1 - z1|^2 + E|p2 - z2|^2) / 2 of unit vectors: Definitions 4.1 to 4.3.

    p are the predictions (the online projections without a predictor), z the target's projections; 1 and 2 are the
    views, and a prediction is compared with the target of its own view. RAFT is cross_model = -1, BYOL' is +1.
    """
    return regression_loss(p1, p2) + cross_model / 2 * (regression_loss(p1, z1) + regression_loss(p2, z2))
