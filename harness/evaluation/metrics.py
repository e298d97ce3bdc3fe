"""Accuracies in percent, counted."""

from __future__ import annotations

import torch
from torch import Tensor

TOP = (1, 5)


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    """How many labels are among the 1 and the 5 highest logits: (..., B, C), (B) -> (..., 2) counts.

    A logit that is no number ranks last, so a diverged head scores nothing.
    """
    ranked = torch.nan_to_num(logits, nan=-torch.inf, posinf=-torch.inf)
    k = min(max(TOP), logits.shape[-1])
    hits = ranked.topk(k, dim=-1).indices == labels.unsqueeze(-1)
    finite = torch.isfinite(logits).all(dim=-1, keepdim=True)
    hits = hits & finite
    return torch.stack([hits[..., : min(top, k)].any(-1).sum(-1) for top in TOP], dim=-1)


def percent(counts: Tensor, images: int) -> list[float]:
    return [100.0 * float(count) / images for count in counts]
