"""Writing .beton files with FFCV.

FFCV's writer hands the samples to worker processes and waits for ever when one dies. It therefore runs in a process
of its own, which ends with an error as soon as a worker does. One worker: all it does is copy images from memory.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from types import FrameType
from typing import IO

import numpy as np

from harness.data.beton import Beton
from harness.data.errors import DataError

# FFCV pads a file to whole pages, and an image must fit in one.
SMALLEST_PAGE = 1 << 21
LARGEST_PAGE = 1 << 25


class Samples:
    """Images and labels as FFCV's writer asks for them: (image, label, index), the index being the position."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> tuple[np.ndarray, int, int]:
        return self.images[position], int(self.labels[position]), int(position)


def write(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write raw RGB images (uint8 NHWC) and their labels to `path`, and check what was written."""
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or len(images) == 0:
        raise DataError(f"{path}: images must be uint8 (N, H, W, 3), these are {images.dtype} {images.shape}")
    if labels.shape != (len(images),):
        raise DataError(f"{path}: {len(images)} images need as many labels, got {labels.shape}")
    if images[0].nbytes > LARGEST_PAGE:
        raise DataError(f"{path}: an image of {images[0].nbytes} bytes does not fit a page of {LARGEST_PAGE}")
    if importlib.util.find_spec("ffcv") is None:
        raise DataError(f"writing {path} needs FFCV, which is not installed; install the extra: pip install '.[data]'")
    page = min(max(1 << (images.nbytes - 1).bit_length(), SMALLEST_PAGE), LARGEST_PAGE)
    _run(path, Samples(images, labels), page)
    if len(Beton(path)) != len(images):
        raise DataError(f"{path} holds {len(Beton(path))} images after writing {len(images)}")


def _run(path: Path, samples: Samples, page: int) -> None:
    """Write in a forked process, which alone imports FFCV; what it says on stderr becomes the error's message."""
    with tempfile.TemporaryFile() as log:
        process = multiprocessing.get_context("fork").Process(target=_guarded, args=(path, samples, page, log))
        process.start()
        process.join()
        log.seek(0)
        said = log.read().decode(errors="replace").strip().splitlines()
    if process.exitcode != 0:
        reason = next((line for line in said if _names_error(line)), f"exit code {process.exitcode}")
        raise DataError(f"writing {path} failed: {reason}")


def _names_error(line: str) -> bool:
    """Whether a line of a traceback is the one that names the exception."""
    name = line.split(":", maxsplit=1)[0]
    return name.endswith(("Error", "Exception")) and " " not in name


def _guarded(path: Path, samples: Samples, page: int, log: IO[bytes]) -> None:
    """The forked process. Leaves by os._exit on an error: an ordinary exit would wait for queues nobody reads."""
    os.dup2(log.fileno(), 2)
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - until the process ends
    signal.signal(signal.SIGCHLD, _worker_ended)
    try:
        _write_with_ffcv(path, samples, page)
    except BaseException:
        traceback.print_exc()
        for worker in multiprocessing.active_children():
            worker.terminate()
        os._exit(1)


def _worker_ended(_signal: int, _frame: FrameType | None) -> None:
    """Interrupt FFCV's wait if the process that ended did not end well. Looks without reaping: that is FFCV's."""
    ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is not None and ended.si_status != 0:
        raise ChildProcessError(f"FFCV's writing process ended with status {ended.si_status}")


def _write_with_ffcv(path: Path, samples: Samples, page: int) -> None:
    from ffcv.fields import IntField, RGBImageField  # noqa: PLC0415 - slow, and absent on some machines
    from ffcv.writer import DatasetWriter  # noqa: PLC0415

    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField(), "index": IntField()}
    DatasetWriter(str(path), fields, page_size=page, num_workers=1).from_indexed_dataset(samples)
