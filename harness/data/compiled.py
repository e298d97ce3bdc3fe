"""FFCV as a reader of batches, with its traps closed. Importing this module imports FFCV, which takes seconds.

FFCV 1.0.2 as it is: an exception in its thread leaves the caller waiting for ever, leaving early leaves the
thread running, tensors it hands out are overwritten two batches later, and importing or iterating sets
torch's thread count. `Epoch` replaces the thread's main function; the compiled pipeline that it runs is
FFCV's own.
"""

from __future__ import annotations

import functools
import queue
import weakref
from collections.abc import Generator
from pathlib import Path

import ffcv
import numba
import numpy as np
from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import SimpleRGBImageDecoder
from ffcv.loader.epoch_iterator import EpochIterator
from numpy.typing import NDArray

from harness.data.beton import Arrays
from harness.data.errors import DataError

AHEAD = 3  # batches prepared in advance
PATIENCE = 600.0  # seconds to wait for a batch, the first of which compiles the pipeline
FAREWELL = 30.0  # seconds to wait for a thread to end; a daemon, it cannot hold the process up
_POLL = 0.1  # seconds between looks at whether the caller has left


class Compiled:
    """One .beton behind FFCV's loader, compiled once for any number of orders."""

    def __init__(self, beton: Path, batch: int, threads: int) -> None:
        self._loader = ffcv.Loader(
            str(beton),
            batch_size=batch,
            num_workers=threads,
            drop_last=False,
            batches_ahead=AHEAD,
            pipelines={"image": [SimpleRGBImageDecoder()], "label": [IntDecoder()], "index": [IntDecoder()]},
        )
        self._open: weakref.WeakSet[Epoch] = weakref.WeakSet()

    def batches(self, order: NDArray[np.int64]) -> Generator[Arrays, None, None]:
        """The images at `order`, batch by batch, read ahead by a thread that ends when the iterator does."""
        epoch = Epoch(self._loader, order)
        self._open.add(epoch)
        try:
            while (arrays := epoch.take()) is not None:
                yield arrays
        finally:
            epoch.stop()

    def close(self) -> None:
        """End the threads of iterators that are still held."""
        for epoch in list(self._open):
            epoch.stop()


@functools.lru_cache(maxsize=8)
def compiled(beton: Path, written_ns: int, batch: int, threads: int) -> Compiled:
    """A process compiles the reader of a file once, though each run and split opens a Loader of its own.

    `written_ns`, the file's time of writing, tells a file from another that was put in its place.
    """
    return Compiled(beton, batch, threads)


class Epoch(EpochIterator):
    """FFCV's thread over one order; constructing it starts it."""

    def run(self) -> None:
        """Prepare the batches one after another; a failure is handed over like a batch."""
        try:
            numba.set_num_threads(self.loader.num_workers)
            for number, positions in enumerate(self.iter_ixes):
                slot = number % (AHEAD + 2)
                pixels, label, index = self.run_pipeline(number, positions, slot, None)
                if not self._give((pixels.copy(), label[:, 0].copy(), index[:, 0].copy())):
                    return
            self._give(None)
        except BaseException as error:
            self._give(error)

    def take(self) -> Arrays | None:
        """The next batch, or None at the end; raises what went wrong in the thread."""
        try:
            given = self.output_queue.get(timeout=PATIENCE)
        except queue.Empty:
            raise DataError(f"{self.loader.fname}: no batch came within {PATIENCE:.0f} seconds") from None
        if isinstance(given, BaseException):
            raise DataError(f"{self.loader.fname}: reading failed: {type(given).__name__}: {given}") from given
        return given

    def stop(self) -> None:
        """End the thread and wait for it."""
        self.terminate_event.set()
        self.join(FAREWELL)

    def _give(self, item: Arrays | BaseException | None) -> bool:
        """Hand an item over, unless the caller has left."""
        while not self.terminate_event.is_set():
            try:
                self.output_queue.put(item, timeout=_POLL)
            except queue.Full:
                continue
            return True
        return False
