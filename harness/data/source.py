"""A dataset as its owner distributes it, before it is written in the form that training reads.

Samples are numbered by the owner's order. Nothing is decoded, and no image is read, before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "valid", "test")

Image = bytes | NDArray[np.uint8]  # a file's bytes as they are, or RGB pixels, height x width x 3


def _no_target(_number: int) -> bytes:
    return b""


@dataclass(frozen=True)
class Source:
    """All samples of a dataset, and the numbers that make up each split, ascending; a number is in at most one split.

    `names` are the owner's and tell samples apart. `labels` are classes, or -1 where a sample has a target instead.
    `image` and `target` read one sample by number, from any thread; records.py has the forms of targets.
    `target_file` names the file of a target, where that is not the image's own. `quickest` is the order in which all
    are read fastest, where that is not the order of their numbers.
    """

    names: Sequence[str]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    splits: Mapping[str, NDArray[np.int64]]
    image: Callable[[int], Image]
    target: Callable[[int], bytes] = _no_target
    target_file: Callable[[int], str] | None = None
    quickest: NDArray[np.int64] | None = None
