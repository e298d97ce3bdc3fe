"""NYU Depth v2 (Silberman et al., 2012), as its owners labelled it: 1449 frames in one MATLAB file, split by another.

The first is of MATLAB 7.3, so HDF5 with its axes reversed: `images`, frames x 3 x width x height, and `depths`,
frames x width x height in metres, holes filled in. `splits.mat` lists the frames of both parts, counted from 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config.datasets import Facts
from harness.data.readers.hdf5 import array_of, check_size
from harness.data.readers.layout import Folder, Numbers
from harness.data.records import encode_depth
from harness.data.source import SPLITS, Source
from harness.data.splits import hold_out_random
from harness.data.stand_in import picture, samples

WHERE = (
    "the owners' page (https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html), "
    "and splits.mat from http://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/splits.mat"
)
FRAMES, LISTS = "nyu_depth_v2_labeled.mat", "splits.mat"
PARTS = ("trainNdxs", "testNdxs")
HEIGHT, WIDTH = 60, 80  # of the stand-in's frames: an eighth of the owners'
HEADER = 512  # bytes in front of the HDF5 content, which say that it is MATLAB's


def read(source: Path, facts: Facts) -> Source:
    """The frames of the owners' train list, some of them held out at random, and those of their test list."""
    folder = Folder(source, facts, WHERE)
    count = sum(facts.images(split) for split in SPLITS)
    _check_shapes(folder, count)
    names = [f"{FRAMES}/{number:04d}" for number in range(1, count + 1)]
    listed, test = _lists(folder, count)
    train, valid = hold_out_random(names, listed, facts.valid_images, "nyu-depth-labelled")
    splits = {"train": train, "valid": valid, "test": test}
    folder.check_splits(splits)
    return Source(names, np.full(count, -1), (), splits, partial(_image, folder), partial(_target, folder))


def stand_in(target: Path, facts: Facts) -> None:
    """A generated set in the same layout, its test frames among the others. What is bright is near, so depth can be
    learned from a picture.
    """
    import h5py  # noqa: PLC0415 - slow to import, and preparing alone needs it
    from scipy.io import savemat  # noqa: PLC0415 - as above

    rows = sorted(samples(facts), key=lambda sample: sample[1] % 4)
    pixels = np.stack([picture(label, number, side=90)[:HEIGHT, :WIDTH] for label, number, _ in rows])
    depths = (1 + 8 * (1 - pixels.mean(axis=3) / 255)).astype(np.float32)
    with h5py.File(target / FRAMES, "w", userblock_size=HEADER) as file:
        file["images"] = pixels.transpose(0, 3, 2, 1)
        file["depths"] = depths.transpose(0, 2, 1)
    with (target / FRAMES).open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    tested = np.array([split == "test" for *_, split in rows])
    lists = (np.flatnonzero(part)[:, None] + 1.0 for part in (~tested, tested))
    savemat(target / LISTS, dict(zip(PARTS, lists, strict=True)))


def _check_shapes(folder: Folder, count: int) -> None:
    """Raise where the file does not hold `count` frames, each with its depths."""
    with _opened(folder) as file:
        size = array_of(file, "images").shape[-2:]
        for field, kind, shape in (("images", "uint8", (count, 3, *size)), ("depths", "float32", (count, *size))):
            found = array_of(file, field)
            check_size(found, count)
            if (found.dtype, found.shape) != (kind, shape):
                path = folder.root / FRAMES
                raise folder.wrong(f"{field} in {path} is {found.dtype} {found.shape}, not {kind} {shape}")


def _lists(folder: Folder, count: int) -> tuple[Numbers, Numbers]:
    """The frames of both parts, counted from 0; no frame is listed twice."""
    train, test = (np.sort(folder.matlab(LISTS, part).astype(np.int64)) - 1 for part in PARTS)
    found, times = np.unique(np.concatenate([train, test]), return_counts=True)
    path = folder.root / LISTS
    strange, twice = found[(found < 0) | (found >= count)], found[times > 1]
    if strange.size:
        raise folder.wrong(f"{path} lists frame {strange[0] + 1}; the frames are 1 to {count}")
    if twice.size:
        raise folder.wrong(f"{path} lists frame {twice[0] + 1} more than once")
    return train, test


def _image(folder: Folder, number: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(_frame(folder, "images", number).transpose(2, 1, 0))


def _target(folder: Folder, number: int) -> bytes:
    return encode_depth(_frame(folder, "depths", number).transpose())


def _frame(folder: Folder, field: str, number: int) -> NDArray[Any]:
    with _opened(folder) as file:
        return np.asarray(array_of(file, field)[number])


@contextmanager
def _opened(folder: Folder) -> Iterator[Any]:
    """The file of frames, open to read; whatever cannot be read in it is a DataError."""
    import h5py  # noqa: PLC0415 - slow to import, and preparing alone needs it

    path = folder.root / FRAMES
    if not path.is_file():
        raise folder.wrong(f"{path} is missing")
    try:
        with h5py.File(path) as file:
            yield file
    except (OSError, KeyError, ValueError) as error:
        raise folder.wrong(f"{path} cannot be read ({error})") from error
