"""Crops of stored images in an order the caller gives, with views the caller draws.

FFCV reads where it is installed, threads and torchvision where it is not, and small sets of raw images lie in memory
whole; all give the same views. Torch's thread count is the caller's and is left as it was, though FFCV sets it when
it is imported and when it starts.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import torch

from harness.data.batch import Batch, Drawer, Integers
from harness.data.beton import Beton
from harness.data.errors import DataError
from harness.data.plain import Plain
from harness.data.resident import Resident
from harness.data.threads import cores

RESIDENT_BYTES = 1 << 30  # raw images up to this size are held in the device's memory


class Reader(Protocol):
    """What a back end does."""

    def batches(self, order: Integers, batch: int, size: int, drawer: Drawer) -> Generator[Batch, None, None]:
        """The crops of the images at these positions, batch by batch, in memory of their own."""

    def close(self) -> None:
        """End whatever is still running."""


class Loader:
    """Batches of one .beton. Serves any number of orders; the first one waits for FFCV to compile."""

    def __init__(
        self, beton: Path, batch: int, size: int, threads: int = 1, device: torch.device | None = None
    ) -> None:
        if batch < 1 or threads < 1 or size < 1:
            raise ValueError(f"a loader needs a positive batch, size and threads, got {batch}, {size} and {threads}")
        self._batch, self._size = batch, size
        self._device = device or torch.device("cpu")
        self._beton = _opened(beton, beton.stat().st_mtime_ns) if beton.exists() else Beton(beton)
        self._reader: Reader = self._start(min(threads, cores()))

    def batches(self, order: np.ndarray, drawer: Drawer) -> Iterator[Batch]:
        """The images at positions `order` of the file, repeats allowed; the last batch may be short."""
        order = np.asarray(order, dtype=np.int64)
        if order.size and not 0 <= order.min() <= order.max() < len(self._beton):
            raise DataError(f"{self._beton.path} holds {len(self._beton)} images; the order asks for others")
        return self._batches(order, drawer)

    def close(self) -> None:
        """End threads of iterators that are still held."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _batches(self, order: Integers, drawer: Drawer) -> Iterator[Batch]:
        reading = self._reader.batches(order, self._batch, self._size, drawer)
        try:
            for batch in reading:
                yield batch.to(self._device)
        finally:
            reading.close()

    def _start(self, threads: int) -> Reader:
        beton = self._beton
        if beton.encoding == "rgb" and beton.uniform and int(beton.sizes.sum()) <= RESIDENT_BYTES:
            return Resident(beton, self._device)
        with torch_threads_kept():
            try:
                from harness.data.compiled import compiled  # noqa: PLC0415 - imports FFCV
            except ImportError:
                return Plain(beton, threads)
            return compiled(beton, threads)


@functools.lru_cache(maxsize=8)
def _opened(path: Path, _written_ns: int) -> Beton:
    """A file is checked once a process; its time of writing tells it from another put in its place."""
    return Beton(path)


@contextmanager
def torch_threads_kept() -> Iterator[None]:
    """Whatever happens inside, torch has as many threads afterwards as before."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
