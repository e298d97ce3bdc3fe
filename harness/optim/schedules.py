"""Learning rate and target decay at an update: `update` counts from 0, `total` is the paper's K."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal


def total_updates(epochs: int, images: int, update_batch: int) -> int:
    """K: whole updates in a continuing stream of `epochs` passes, not whole updates of each epoch."""
    return epochs * images // update_batch


def peak_learning_rate(base: float, batch: int, optimizer: Literal["lars", "sgd", "adam"] = "lars") -> float:
    """The linear scaling rule: base * batch / 256. Adam's steps do not grow with the gradient: base itself."""
    return base if optimizer == "adam" else base * batch / 256


def cosine(update: int, total: int, peak: float) -> float:
    """Half a cosine from `peak` at 0 to 0 at `total`, and 0 beyond."""
    return peak * (math.cos(math.pi * min(update / total, 1)) + 1) / 2


def tenths(update: int, total: int, peak: float, drops: Sequence[float]) -> float:
    """`peak`, and a tenth of what it was from each of `drops` on, which are parts of `total`."""
    return peak / 10 ** sum(update >= drop * total for drop in drops)


def learning_rate(
    update: int, total: int, warmup: int, peak: float, decay: Literal["cosine", "none"] = "cosine"
) -> float:
    """Linear from 0 over `warmup` updates (the first one's rate is 0), then half a cosine over the rest, or `peak`."""
    if update < warmup:
        return peak * update / warmup
    return peak if decay == "none" else cosine(update - warmup, total - warmup, peak)


def tau(update: int, total: int, tau_base: float, schedule: Literal["cosine", "constant"] = "cosine") -> float:
    """1 - (1 - tau_base) (cos(pi k / K) + 1) / 2: from tau_base at the first update k = 0 up to 1; or tau_base."""
    return tau_base if schedule == "constant" else 1 - cosine(update, total, 1 - tau_base)
