"""Batches of stored images in an order the caller gives.

FFCV reads where it is installed, numpy where it is not; both give the same batches. Torch's thread count is
the caller's and is left as it was, though FFCV sets it when it is imported and when it starts.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.beton import Arrays, Beton
from harness.data.errors import DataError


@dataclass(frozen=True)
class Batch:
    """Images as stored: `pixels` uint8 NHWC; `offset` says where in the given order they stand."""

    index: Tensor
    label: Tensor
    pixels: Tensor
    offset: range


class Reader(Protocol):
    """What a back end does."""

    def batches(self, order: NDArray[np.int64]) -> Generator[Arrays, None, None]:
        """The images at these positions, batch by batch, in arrays that stay as they are."""

    def close(self) -> None:
        """End whatever is still running."""


class Plain:
    """Batches by numpy alone, read when asked for."""

    def __init__(self, beton: Beton, batch: int) -> None:
        self._beton = beton
        self._batch = batch

    def batches(self, order: NDArray[np.int64]) -> Generator[Arrays, None, None]:
        """The images at these positions, batch by batch."""
        for start in range(0, len(order), self._batch):
            part = order[start : start + self._batch]
            yield self._beton.pixels(part), self._beton.labels[part], self._beton.indices[part]

    def close(self) -> None:
        """Nothing runs."""


class Loader:
    """Batches of one .beton. Serves any number of orders; the first one waits for FFCV to compile."""

    def __init__(self, beton: Path, batch: int, threads: int = 1) -> None:
        if batch < 1 or threads < 1:
            raise ValueError(f"a loader needs a positive batch and threads, got {batch} and {threads}")
        self._beton = Beton(beton)
        self._batch = batch
        self._reader: Reader = self._start(beton, batch, threads)

    def batches(self, order: np.ndarray) -> Iterator[Batch]:
        """The images at positions `order` of the file, repeats allowed; the last batch may be short."""
        order = np.asarray(order, dtype=np.int64)
        if order.size and not 0 <= order.min() <= order.max() < len(self._beton):
            raise DataError(f"{self._beton.path} holds {len(self._beton)} images; the order asks for others")
        return self._batches(order)

    def close(self) -> None:
        """End threads of iterators that are still held."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _batches(self, order: NDArray[np.int64]) -> Iterator[Batch]:
        reading = self._reader.batches(order)
        start = 0
        try:
            for pixels, label, index in reading:
                offset = range(start, start + len(label))
                start = offset.stop
                yield Batch(torch.from_numpy(index), torch.from_numpy(label), torch.from_numpy(pixels), offset)
        finally:
            reading.close()

    def _start(self, beton: Path, batch: int, threads: int) -> Reader:
        with torch_threads_kept():
            try:
                from harness.data.compiled import compiled  # noqa: PLC0415 - imports FFCV
            except ImportError:
                return Plain(self._beton, batch)
            usable = min(threads, len(os.sched_getaffinity(0)))
            return compiled(beton, beton.stat().st_mtime_ns, batch, usable)


@contextmanager
def torch_threads_kept() -> Iterator[None]:
    """Whatever happens inside, torch has as many threads afterwards as before."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
