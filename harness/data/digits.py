"""scikit-learn's handwritten digits, enlarged to 24 pixels: a dataset that is on every machine with nothing downloaded.

1797 grey images of 8 x 8 pixels with values 0 to 16. They are enlarged so that random crops have something to
cut, in integers, so that every machine gets the same bytes.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from harness.data.source import Source

SIZES = {"test": 500, "valid": 200}  # the rest is for training
BRIGHTEST = 16


def digits() -> Source:
    """The images, their labels and their division into train (1097), valid (200) and test (500)."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - slow to import, and preparing alone needs it

    bunch = load_digits()
    pixels = np.repeat(enlarge(bunch.images.astype(np.int64))[..., None], 3, axis=-1)
    return Source(
        names=[f"digits/{number}" for number in range(len(pixels))],
        labels=bunch.target.astype(np.int64),
        classes=tuple(str(digit) for digit in range(10)),
        splits=divide(len(pixels)),
        image=pixels.__getitem__,
    )


def divide(images: int) -> dict[str, NDArray[np.int64]]:
    """The splits: numbers in the order of their sha256, which no library version changes, cut at the sizes above."""
    order = sorted(range(images), key=lambda number: hashlib.sha256(f"digits/{number}".encode()).digest())
    splits, start = {}, 0
    for split, size in (*SIZES.items(), ("train", images - sum(SIZES.values()))):
        splits[split] = np.array(sorted(order[start : start + size]), dtype=np.int64)
        start += size
    return splits


def enlarge(images: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Bilinear enlargement by three with half-pixel centres: each new pixel is a mix of two neighbours in thirds."""
    for axis in (1, 2):
        edge = np.pad(images, [(1, 1) if each == axis else (0, 0) for each in range(3)], mode="edge")
        before, here, after = (np.moveaxis(edge, axis, -1)[..., i : i + images.shape[axis]] for i in range(3))
        triple = np.stack([before + 2 * here, 3 * here, 2 * here + after], axis=-1)
        images = np.moveaxis(triple.reshape(*here.shape[:-1], -1), -1, axis)
    full = 9 * BRIGHTEST
    return ((255 * images + full // 2) // full).astype(np.uint8)
