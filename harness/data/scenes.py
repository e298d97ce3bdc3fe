"""Whole images with what they carry beside a label, for tasks that look at places in them and cut them themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.data import philox
from harness.data.beton import Beton
from harness.data.dataset import Dataset
from harness.data.plain import AHEAD, decoded
from harness.data.threads import cores

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Made = TypeVar("Made")

# from an image's place in an order, its number in the source, its pixels (H, W, 3) in uint8, and its target
Make = Callable[[int, int, Tensor, bytes], Made]

_SCENE = 3  # second word of the Philox key: keeps these numbers apart from the shuffle's and the views'


class Scenes:
    """The images of a split, by their places in its list: 0 to len - 1."""

    def __init__(self, dataset: Dataset, split: str, threads: int) -> None:
        self.numbers: Integers = dataset.numbers(split)
        self._beton, self._positions = Beton(dataset.beton(split)), dataset.indices(split)
        self._pool = ThreadPoolExecutor(min(threads, cores()), thread_name_prefix="scenes")

    def __len__(self) -> int:
        return len(self.numbers)

    def batches(self, order: Integers, batch: int, make: Make[Made]) -> Iterator[list[Made]]:
        """What `make` makes of the images at these places, in their order; the last batch may be short.

        Threads decode and make, a batch or two in advance. `make` must not depend on when or where it is called.
        """
        under_way: deque[list[Future[Made]]] = deque()
        try:
            for start in range(0, len(order), batch):
                places = range(start, min(start + batch, len(order)))
                under_way.append([self._pool.submit(self._make, make, place, int(order[place])) for place in places])
                if len(under_way) > AHEAD:
                    yield [job.result() for job in under_way.popleft()]
            while under_way:
                yield [job.result() for job in under_way.popleft()]
        finally:
            for jobs in under_way:
                for job in jobs:
                    job.cancel()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _make(self, make: Make[Made], place: int, at: int) -> Made:
        position = int(self._positions[at])
        return make(place, int(self.numbers[at]), decoded(self._beton, position), self._beton.target(position))


def uniforms(seed: int, epoch: int, number: int, slots: int) -> Floats:
    """Numbers in [0, 1) for an image in an epoch, one a slot: what is drawn from a slot moves no other draw."""
    blocks = np.arange(-(-slots // 4), dtype=np.uint64)
    words = philox.bits((blocks, np.uint64(0), np.uint64(number), np.uint64(epoch)), (seed, _SCENE))
    return philox.uniforms(words.reshape(-1))[:slots]
