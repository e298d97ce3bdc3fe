"""The cross-entropy of each pixel's class."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F


def pixel_loss(logits: Tensor, mask: Tensor, *, void: int, gather: Callable[[Tensor], Tensor]) -> Tensor:
    """-1/P sum_p ln softmax(logits_p)[mask_p] over the P pixels that are not `void`: (B, C, H, W), (B, H, W).

    The sum is over this rank's pixels, and P is their mean number a rank. `gather` concatenates over the ranks, and the
    ranks' losses are averaged.
    """
    total = F.cross_entropy(logits, mask.long(), ignore_index=void, reduction="sum")
    pixels = gather((mask != void).sum()[None].to(total.dtype)).mean()
    return total / pixels.clamp_min(1)
