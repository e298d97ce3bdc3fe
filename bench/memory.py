"""Whether iterating leaks: `python bench/memory.py` reads a generated set of 100,000 small images five times over.

The peak of the reading process's memory in an epoch must stay within 5 % of that in the first.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from peers import TABLE_6
from PIL import Image

from harness.config.datasets import IMAGENET_MEAN, IMAGENET_STD
from harness.data.augment import views
from harness.data.draws import Draws, draw
from harness.data.loader import Loader
from harness.data.stream import shuffle
from harness.data.writer import Sample, write

BATCH, SIZE = 64, 32
DIFFERENT = 1000  # images generated; the set repeats them
SIDES = (40, 60)  # pixels, shortest and longest
BAR = 5.0  # percent


def generate(beton: Path, images: int) -> None:
    """Photograph-like JPEGs of about 1 KB and different sizes."""
    random = np.random.default_rng(0)
    files = []
    for _ in range(min(DIFFERENT, images)):
        height, width = random.integers(SIDES[0], SIDES[1] + 1, 2).tolist()
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        out = io.BytesIO()
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=80)
        files.append((out.getvalue(), height, width))

    def samples() -> Iterator[Sample]:
        for index in range(images):
            file, height, width = files[index % len(files)]
            yield Sample(image=file, target=b"", label=index % 10, index=index, height=height, width=width)

    write(beton, "jpeg", samples(), images)


def read(beton: Path, images: int, epochs: int, threads: int) -> list[int]:
    """The peak of this process's memory in each epoch, in bytes: both views of every image, ready for training."""
    peaks = []
    with Loader(beton, BATCH, SIZE, threads=threads) as loader:
        iterate(loader, np.arange(BATCH), epochs, threads)  # compiles
        for epoch in range(epochs):
            forget_peak()
            iterate(loader, shuffle(images, 0, epoch), epoch, threads)
            peaks.append(peak())
    return peaks


def iterate(loader: Loader, order: np.ndarray, epoch: int, threads: int) -> None:
    """One epoch."""

    def drawer(_offset: range, index: np.ndarray, height: np.ndarray, width: np.ndarray) -> tuple[Draws, ...]:
        which = np.full(len(index), epoch)
        return tuple(
            draw(view, seed=0, epoch=which, index=index, view_number=number, height=height, width=width)
            for number, view in enumerate(TABLE_6)
        )

    for batch in loader.batches(order, drawer):
        for crops, draws in zip(batch.crops, batch.draws, strict=True):
            views(crops, draws, IMAGENET_MEAN, IMAGENET_STD, threads)


def peak() -> int:
    """The most memory this process has had since `forget_peak`, in bytes; pages of the file count."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def forget_peak() -> None:
    """Linux starts the peak anew from what is held now."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> int:
    """Generate, read in a process of its own, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--strict", action="store_true", help="exit with 1 if memory grew too much")
    arguments = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as folder:
        beton = Path(folder) / "images.beton"
        generate(beton, arguments.images)
        print(f"{arguments.images} images, {beton.stat().st_size / 2**20:.0f} MiB, {threads} threads", flush=True)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            peaks = alone.submit(read, beton, arguments.images, arguments.epochs, threads).result()
    for epoch, size in enumerate(peaks, 1):
        print(f"epoch {epoch}: peak {size / 2**20:.1f} MiB")
    growth = 100 * (max(peaks[1:], default=peaks[0]) / peaks[0] - 1)
    verdict = "pass" if growth < BAR else "MISS"
    print(f"growth after the first epoch: {growth:.2f} % ({verdict}, bar {BAR} %)")
    return int(arguments.strict and growth >= BAR)


if __name__ == "__main__":
    sys.exit(main())
