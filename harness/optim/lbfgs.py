"""The direction of L-BFGS: a diagonal estimate of the inverse Hessian, corrected by the last steps.

torch's and scipy's minimisers take no diagonal and search each step by whole evaluations, so the recursion stands here.
"""

from __future__ import annotations

from collections import deque

from torch import Tensor


class InverseHessian:
    """H of `memory` pairs of step s and change of gradient y, by Nocedal's two loops.

    With rho = 1 / s'y, H <- (I - rho s y') H (I - rho y s') + rho s s' for each pair, the oldest first, from
    gamma * diag(`diagonal`), gamma = s'y / y' diag(`diagonal`) y of the newest.
    """

    def __init__(self, diagonal: Tensor, memory: int) -> None:
        self._diagonal = diagonal
        self._pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=memory)  # s, y and s'y

    def learn(self, step: Tensor, change: Tensor) -> None:
        """Take a step and the change of the gradient along it; a pair without positive curvature is left out."""
        curvature = (step * change).sum()
        if curvature > 0:
            self._pairs.append((step, change, curvature))

    def times(self, gradient: Tensor) -> Tensor:
        """H times a gradient."""
        remaining, shares = gradient.clone(), []
        for step, change, curvature in reversed(self._pairs):
            share = (step * remaining).sum() / curvature
            shares.append(share)
            remaining -= share * change
        product = self._diagonal * remaining
        if self._pairs:
            _, change, curvature = self._pairs[-1]
            product *= curvature / (change * self._diagonal * change).sum()
        for (step, change, curvature), share in zip(self._pairs, reversed(shares), strict=True):
            product += (share - (change * product).sum() / curvature) * step
        return product
