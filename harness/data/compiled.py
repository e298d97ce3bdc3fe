"""FFCV as a reader of batches, with its traps closed. Importing this module imports FFCV, which takes seconds.

FFCV 1.0.2 as it is: an exception in its thread leaves the caller waiting for ever, leaving early leaves the
thread running, tensors it hands out are overwritten two batches later, a JPEG that cannot be decoded comes out
black, its crop decoders ask for the memory of the largest image times the batch, and importing or iterating sets
torch's thread count. `Epoch` replaces the thread's main function, and `Crops` is the operation that it runs: one
decode, all views.
"""

from __future__ import annotations

import functools
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace

import ffcv
import numpy as np
from ffcv.fields.bytes import BytesDecoder
from ffcv.loader.epoch_iterator import EpochIterator
from ffcv.memory_managers.os_cache import OSCacheManager
from ffcv.pipeline.state import State
from numpy.typing import NDArray
from torch import Tensor

from harness.data import bicubic, turbojpeg
from harness.data.batch import Batch, Drawer, Integers, Request, fill, requests, room
from harness.data.beton import Beton
from harness.data.errors import DataError

AHEAD = 3  # batches prepared in advance
PATIENCE = 600.0  # seconds to wait for a batch, the first of which compiles the pipeline
FAREWELL = 30.0  # seconds to wait for a thread to end; a daemon, it cannot hold the process up
SHARE = 8  # images a worker thread takes at a time: few enough to spread large and small ones evenly
_compiling = threading.Lock()
_POLL = 0.1  # seconds between looks at whether the caller has left


class Tools:
    """What a worker thread needs for itself: a decoder, and room for one decoded image."""

    def __init__(self, largest: int) -> None:
        self.handle = turbojpeg.make_handle()
        self.scratch = np.empty(turbojpeg.CHANNELS * largest, np.uint8)

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            turbojpeg.free_handle(self.handle)


class Crops(BytesDecoder):
    """FFCV's decoder of our images, in place of its own: decodes each once and cuts every drawn view from it.

    FFCV calls it with (positions, memory, metadata, file); memory is where the crops go, the boxes, the image sizes,
    where failures are noted, and a thread's tools. It asks FFCV for no memory: every batch brings its own.
    """

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self.encoding = encoding

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, None]:
        """Compiled code; the crops' size is the batch's affair."""
        return replace(previous_state, jit_mode=True), None

    def generate_code(self) -> Callable:
        """The loop over the images of a share."""
        return _decode_all if self.encoding == "jpeg" else _copy_all


def _decode_all(positions, memory, metadata, storage):  # type: ignore[no-untyped-def]
    crops, boxes, heights, widths, failed, scratch, handle = memory
    for i in range(len(positions)):
        place = metadata[positions[i]]
        data = storage[0][place["ptr"] : place["ptr"] + place["size"]]
        failed[i] = bicubic.decode_and_crop(data, heights[i], widths[i], boxes[i], crops[i], scratch, handle)
    return crops


def _copy_all(positions, memory, metadata, storage):  # type: ignore[no-untyped-def]
    crops, boxes, heights, widths, _failed, _scratch, _handle = memory
    for i in range(len(positions)):
        place = metadata[positions[i]]
        pixels = storage[0][place["ptr"] : place["ptr"] + place["size"]].reshape((heights[i], widths[i], 3))
        for view in range(boxes.shape[1]):
            box = boxes[i, view]
            bicubic.crop(pixels, box[0], box[1], box[2], box[3], box[4] != 0, crops[i, view])
    return crops


class Compiled:
    """One .beton behind FFCV's loader, compiled once for any number of orders and views."""

    def __init__(self, beton: Beton, threads: int) -> None:
        disabled = dict.fromkeys(("target", "label", "index", "height", "width"))
        self.beton = beton
        with _compiling, _no_reader():
            self.loader = ffcv.Loader(
                str(beton.path),
                batch_size=1,  # each order brings its own
                num_workers=1,  # FFCV's parallel code serves one caller at a time; ours are threads
                os_cache=True,
                batches_ahead=AHEAD,
                pipelines={beton.encoding: [Crops(beton.encoding)], **disabled},
            )
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="crops")
        self.ready = False  # whether the pipeline has run, and so is compiled
        self._largest = int((beton.heights * beton.widths).max())
        self._local = threading.local()
        self._open: weakref.WeakSet[Epoch] = weakref.WeakSet()

    def batches(self, order: Integers, batch: int, size: int, drawer: Drawer) -> Generator[Batch, None, None]:
        """The images at `order`, batch by batch, read ahead by a thread that ends when the iterator does."""
        epoch = Epoch(self, requests(self.beton, order, batch, drawer), size)
        self._open.add(epoch)
        try:
            while (one := epoch.take()) is not None:
                yield one
        finally:
            epoch.stop()

    def tools(self) -> Tools:
        """This thread's own."""
        if not hasattr(self._local, "tools"):
            self._local.tools = Tools(self._largest)
        return self._local.tools

    def close(self) -> None:
        """End the threads of iterators that are still held."""
        for epoch in list(self._open):
            epoch.stop()


@contextmanager
def _no_reader() -> Iterator[None]:
    """FFCV compiles a reader of its own, which `Crops` has no use for, and to do so marks numba's type of byte arrays
    read-only, for whatever was compiled for it before as well.
    """
    own = OSCacheManager.compile_reader
    OSCacheManager.compile_reader = lambda _self: None
    try:
        yield
    finally:
        OSCacheManager.compile_reader = own


@functools.lru_cache(maxsize=8)
def compiled(beton: Beton, threads: int) -> Compiled:
    """A process compiles the reader of a file once, though each run and split opens a Loader of its own."""
    return Compiled(beton, threads)


@dataclass(frozen=True)
class Work:
    """A batch under way: what is asked for, where its crops go, which images failed, and the threads' shares."""

    request: Request
    pixels: Tensor
    failed: NDArray[np.int64]
    shares: list[Future[None]]


class Epoch(EpochIterator):
    """FFCV's thread over one order; constructing it starts it."""

    def __init__(self, reader: Compiled, wanted: Iterator[Request], size: int) -> None:
        self.reader, self.wanted, self.size = reader, wanted, size
        super().__init__(reader.loader, [])  # starts the thread: nothing may follow

    def run(self) -> None:
        """Prepare the batches one after another, the next begun before one is done; a failure is handed over too."""
        under_way: deque[Work] = deque()
        try:
            for request in self.wanted:
                under_way.append(self._begin(request))
                if len(under_way) > 1 and not self._give(self._end(under_way.popleft())):
                    return
            while under_way:
                if not self._give(self._end(under_way.popleft())):
                    return
            self._give(None)
        except BaseException as error:
            self._give(error)
        finally:
            for work in under_way:
                wait(work.shares)  # they write into memory of this batch

    def take(self) -> Batch | None:
        """The next batch, or None at the end; raises what went wrong in the thread."""
        try:
            given = self.output_queue.get(timeout=PATIENCE)
        except queue.Empty:
            raise DataError(f"{self.loader.fname}: no batch came within {PATIENCE:.0f} seconds") from None
        if isinstance(given, DataError):
            raise given
        if isinstance(given, BaseException):
            raise DataError(f"{self.loader.fname}: reading failed: {type(given).__name__}: {given}") from given
        return given

    def stop(self) -> None:
        """End the thread and wait for it."""
        self.terminate_event.set()
        self.join(FAREWELL)

    def _begin(self, request: Request) -> Work:
        """FFCV's pipeline over the images of a request, in shares for the worker threads."""
        beton, positions, boxes = self.reader.beton, request.positions, request.boxes
        heights, widths = beton.heights[positions], beton.widths[positions]
        failed = np.zeros(len(positions), np.int64)
        pixels = room(request, self.size)
        crops = pixels.numpy()
        (stage, _), *_ = self.loader.code[0]
        node = self.loader.graph.nodes[0].id

        def run(start: int) -> None:
            part, tools = slice(start, start + SHARE), self.reader.tools()
            own = (tools.scratch, tools.handle)
            memory = (crops[part], boxes[part], heights[part], widths[part], failed[part], *own)
            names = {f"memory_{node}": memory, f"shared_memory_{node}": None}
            stage(positions[part], metadata=self.metadata, storage_state=self.storage_state, **names)

        with _compiling:  # numba's compiler stumbles where several threads call a function for the first time
            if not self.reader.ready:
                run(0)
                self.reader.ready = True
        shares = [self.reader.pool.submit(run, start) for start in range(0, len(positions), SHARE)]
        return Work(request, pixels, failed, shares)

    def _end(self, work: Work) -> Batch:
        beton, positions = self.reader.beton, work.request.positions
        for share in work.shares:
            share.result()
        if work.failed.any():
            broken = int(beton.indices[positions[np.flatnonzero(work.failed)[0]]])
            remedy = f"run `harness prepare {beton.path.parent.name} --check`"
            raise DataError(f"{beton.path}: image {broken} cannot be decoded; {remedy}")
        return fill(beton, work.request, work.pixels)

    def _give(self, item: Batch | BaseException | None) -> bool:
        """Hand an item over, unless the caller has left."""
        while not self.terminate_event.is_set():
            try:
                self.output_queue.put(item, timeout=_POLL)
            except queue.Full:
                continue
            return True
        return False
