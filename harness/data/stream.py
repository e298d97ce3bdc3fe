"""The continuing stream of training images: epoch after epoch, each in its own order, with no seam between them.

Training takes K = epochs * images // batch updates, not whole epochs (the paper's step counts), so a batch
may begin in one epoch and end in the next. Position p of the stream is in epoch p // images, and the order of
an epoch depends on (seed, epoch) alone: any process can find any position, so ranks, resumed runs and chunks
all see the same stream.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.data import philox

Integers = NDArray[np.int64]

_SHUFFLE = 1  # second word of the Philox key: keeps these numbers apart from the augmentation's
_KEPT = 2  # epochs whose order is kept: a batch touches at most two neighbours


class Stream:
    """The order in which a split of `images` images is seen."""

    def __init__(self, images: int, seed: int) -> None:
        if images < 1:
            raise ValueError(f"a stream needs at least one image, got {images}")
        self.images = images
        self.seed = seed
        self._orders: dict[int, Integers] = {}

    def locate(self, positions: np.ndarray) -> tuple[Integers, Integers]:
        """The epoch of each stream position, and its offset into the split's index list."""
        positions = np.asarray(positions, dtype=np.int64)
        epoch, rank = np.divmod(positions, self.images)
        offset = np.empty_like(positions)
        for number in np.unique(epoch):
            here = epoch == number
            offset[here] = self._order(int(number))[rank[here]]
        return epoch, offset

    def _order(self, epoch: int) -> Integers:
        if epoch not in self._orders:
            while len(self._orders) >= _KEPT:
                del self._orders[next(iter(self._orders))]
            self._orders[epoch] = shuffle(self.images, self.seed, epoch)
        return self._orders[epoch]


def shuffle(images: int, seed: int, epoch: int) -> Integers:
    """The permutation of one epoch: a stable sort of one random word an image.

    Not numpy's Generator.permutation, whose result numpy may change between versions.
    """
    block = np.arange((images + 3) // 4, dtype=np.uint64)
    zero = np.uint64(0)
    words = philox.bits((block, np.full_like(block, epoch), zero, zero), (seed, _SHUFFLE))
    return np.argsort(words.reshape(-1)[:images], kind="stable")
