"""The mean intersection over union of semantic segmentation, as VOC's development kit counts it."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.data.errors import DataError
from harness.data.records import VOID
from harness.training.ranks import Ranks


class MaskTally:
    """How many pixels of each class (rows) were said to be of each (columns); those that are VOID are left out.

    A pixel with a logit that is no number is said to be of no class, which is the last column.
    """

    def __init__(self, classes: int, device: torch.device) -> None:
        self._pixels = torch.zeros(classes, classes + 1, dtype=torch.int64, device=device)

    def add(self, logits: Tensor, masks: Tensor) -> None:
        """Logits (B, classes, H, W) of images and their masks (B, H, W), as the records have them."""
        classes, columns = self._pixels.shape
        said = logits.argmax(1).where(torch.isfinite(logits).all(1), classes)
        counted = masks != VOID
        cells = masks[counted].long() * columns + said[counted]
        self._pixels += torch.bincount(cells, minlength=classes * columns).view(classes, columns)

    def gather(self, ranks: Ranks) -> None:
        """Take what the other ranks have taken."""
        self._pixels = ranks.total(self._pixels)

    def results(self) -> dict[str, float]:
        """miou: the mean over classes, in percent, of the pixels in truth and prediction over those in either.

        A class that is in neither has no such share, and is left out.
        """
        pixels = self._pixels.cpu().double()
        both = pixels.diag()
        either = pixels.sum(1) + pixels[:, :-1].sum(0) - both
        shown = either > 0
        if not shown.any():
            raise DataError("no pixel of the masks has a class, so that there is nothing to average")
        return {"miou": float(100 * (both[shown] / either[shown]).mean())}
