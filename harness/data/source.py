"""A dataset as its owner provides it, before it is written in the form that training reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Source:
    """All images of a dataset, numbered by its owner's order, and the numbers that make up each split, ascending."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: int
    splits: Mapping[str, NDArray[np.int64]]


def split_id(splits: Mapping[str, NDArray[np.int64]]) -> str:
    """Names a division into splits: 16 hexadecimal digits of the sha256 of its lists of numbers."""
    lists = {split: [int(number) for number in splits[split]] for split in SPLITS}
    return hashlib.sha256(json.dumps(lists, separators=(",", ":")).encode()).hexdigest()[:16]
