"""Learning rate and target decay at an update: `update` counts from 0, `total` is the paper's K."""

from __future__ import annotations

import math


def total_updates(epochs: int, images: int, update_batch: int) -> int:
    """K: whole updates in a continuing stream of `epochs` passes, not whole updates of each epoch."""
    return epochs * images // update_batch


def peak_learning_rate(base: float, batch: int) -> float:
    """The linear scaling rule: base * batch / 256."""
    return base * batch / 256


def cosine(update: int, total: int, peak: float) -> float:
    """Half a cosine from `peak` at 0 to 0 at `total`, and 0 beyond."""
    return peak * (math.cos(math.pi * min(update / total, 1)) + 1) / 2


def learning_rate(update: int, total: int, warmup: int, peak: float) -> float:
    """Linear from 0 over `warmup` updates, then half a cosine over the rest. The first update's rate is 0."""
    if update < warmup:
        return peak * update / warmup
    return cosine(update - warmup, total - warmup, peak)


def tau(update: int, total: int, tau_base: float) -> float:
    """1 - (1 - tau_base) (cos(pi k / K) + 1) / 2: from tau_base at the first update k = 0 up to 1."""
    return 1 - cosine(update, total, 1 - tau_base)
