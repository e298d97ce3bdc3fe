"""The errors of depth estimation on NYU v2, over all pixels of a split, as Laina et al. (2016) have them."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.data.errors import DataError
from harness.training.ranks import Ranks

POWERS = (1, 2, 3)  # of 1.25


class DepthTally:
    """Sums over the pixels with a depth, a positive number; each counts the same, whatever its image.

    A prediction that is not positive is beyond every threshold; one that is no number is infinitely wrong.
    """

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(len(POWERS) + 3, dtype=torch.float64, device=device)

    def add(self, predicted: Tensor, depth: Tensor) -> None:
        """Metres at the same pixels, of any shape."""
        known = torch.isfinite(depth) & (depth > 0)
        truth = depth[known].double()
        said = predicted[known].double().nan_to_num(torch.inf, torch.inf, -torch.inf)
        ratio = torch.maximum(truth / said, said / truth).where(said > 0, torch.inf)
        error = (said - truth).abs()
        parts = [*((ratio < 1.25**n).double() for n in POWERS), error.square(), error / truth, torch.ones_like(truth)]
        self._sums += torch.stack([part.sum() for part in parts])

    def gather(self, ranks: Ranks) -> None:
        """Take what the other ranks have taken."""
        self._sums = ranks.total(self._sums)

    def results(self) -> dict[str, float]:
        """pct_1.25, pct_1.25_2, pct_1.25_3: the percentage with max(truth / said, said / truth) < 1.25^n. rms: the root
        of the mean square error in metres. rel: the mean error over the truth.
        """
        *shares, squares, relative, pixels = self._sums.tolist()
        if not pixels:
            raise DataError("no pixel has a depth, so that there is no error to average")
        names = ["pct_1.25", *(f"pct_1.25_{n}" for n in POWERS[1:])]
        within = {name: 100 * share / pixels for name, share in zip(names, shares, strict=True)}
        return within | {"rms": (squares / pixels) ** 0.5, "rel": relative / pixels}
