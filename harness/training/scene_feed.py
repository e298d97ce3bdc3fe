"""What a training on whole images sees: the stream's images, update by update, as this rank makes its part of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

from harness.data.dataset import Dataset
from harness.data.scenes import Integers, Scenes
from harness.data.stream import Stream
from harness.training.feed import CHUNK_IMAGES
from harness.training.ranks import Ranks

Made = TypeVar("Made")

# from the epoch, the image's number in the source, its pixels (H, W, 3) in uint8, and its target
Make = Callable[[int, int, Tensor, bytes], Made]


class SceneFeed(Generic[Made]):
    """The batches of a split whose images `make` prepares; `images` is how many an epoch has."""

    def __init__(self, dataset: Dataset, split: str, seed: int, make: Make[Made], ranks: Ranks, threads: int) -> None:
        self._scenes, self._make, self._plan = Scenes(dataset, split, threads), make, ranks.plan
        self.images = len(self._scenes)
        self._stream = Stream(self.images, seed)

    def batches(self, first: int, total: int) -> Iterator[list[Made]]:
        """This rank's images of updates first ... total - 1."""
        size = self._plan.microbatch * self._plan.groups_per_rank
        chunk = max(1, CHUNK_IMAGES // size)
        for start in range(first, total, chunk):
            epochs, order = self._stream.locate(self._plan.positions(start, min(start + chunk, total)))
            yield from self._scenes.batches(order, size, self._at(epochs))

    def wanted(self, step: int) -> np.ndarray:
        """The numbers of the images of an update, all ranks together."""
        size = self._plan.update_batch
        _, places = self._stream.locate(np.arange(step * size, (step + 1) * size))
        return self._scenes.numbers[places]

    def close(self) -> None:
        self._scenes.close()

    def _at(self, epochs: Integers) -> Callable[[int, int, Tensor, bytes], Made]:
        """What prepares the image at a place of a chunk, whose epochs these are."""
        return lambda place, number, pixels, target: self._make(int(epochs[place]), number, pixels, target)
