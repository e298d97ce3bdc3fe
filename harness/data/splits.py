"""How samples are drawn from a split: held-out validation images and subsets of labels.

Every draw follows the sha256 of the samples' names, so it is the same on every machine and for ever: no library's
random numbers are in it, nor the order in which a disk lists its files. `numbers` are the candidates, as places in
`names` and `labels`; what is returned is ascending. A salt is the set's name, so that sets are drawn independently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.errors import DataError

Numbers = NDArray[np.int64]


def hold_out_random(names: Sequence[str], numbers: Numbers, count: int, salt: str) -> tuple[Numbers, Numbers]:
    """`count` of the candidates, whatever their class: the rest, and the chosen."""
    return _parted(_shuffled(names, numbers, salt), count, salt)


def hold_out_balanced(
    names: Sequence[str], labels: Numbers, numbers: Numbers, per_class: int, salt: str
) -> tuple[Numbers, Numbers]:
    """`per_class` candidates of every class: the rest, and the chosen. Every class keeps at least one."""
    shuffled = _shuffled(names, numbers, salt)
    held = np.bincount(labels[shuffled], minlength=int(labels.max(initial=-1)) + 1)
    poor = np.flatnonzero(held <= per_class)
    if poor.size:
        few, needed = held[poor[0]], per_class + 1
        raise DataError(f"{salt}: class {poor[0]} has {few} images; to hold out {per_class} there must be {needed}")
    chosen = _turns(labels[shuffled]) < per_class
    return np.sort(shuffled[~chosen]), np.sort(shuffled[chosen])


def last_by_md5(names: Sequence[str], numbers: Numbers, count: int, prefix: str) -> tuple[Numbers, Numbers]:
    """The last `count` candidates by ascending md5 of prefix + name: the rest, and the chosen.

    TensorFlow Datasets stores ImageNet in this order (prefix `train`, base names), and "the last images of the
    TensorFlow split" means it.
    """
    ordered = _by_digest(
        names, numbers, lambda name: hashlib.md5((prefix + name).encode(), usedforsecurity=False).digest()
    )
    return _parted(ordered[::-1], count, prefix)


def balanced_subset(names: Sequence[str], labels: Numbers, numbers: Numbers, percent: float, salt: str) -> Numbers:
    """`percent` of the candidates, as evenly from the classes as their sizes allow.

    The classes take turns, each giving its next image by hash, until the subset is full: so a smaller percentage
    is always inside a larger one.
    """
    shuffled = _shuffled(names, numbers, salt)
    size = round(percent / 100 * len(shuffled))
    return np.sort(shuffled[np.argsort(_turns(labels[shuffled]), kind="stable")[:size]])


def listed(path: Path, names: Sequence[str], numbers: Numbers) -> Numbers:
    """The candidates whose names a file lists, one a line, as SimCLR's lists of 1 % and 10 % of ImageNet do."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list of images {path} cannot be read ({error})") from error
    known = {names[number]: number for number in numbers}
    chosen: dict[int, int] = {}  # number -> line
    strange: list[str] = []
    for place, name in enumerate(map(str.strip, lines), start=1):
        if not name:
            continue
        if name not in known:
            strange.append(f"line {place}: {name!r}")
            continue
        first = chosen.setdefault(known[name], place)
        if first != place:
            raise DataError(f"{path}, line {place}: {name!r} is already on line {first}; remove one of the two")
    if strange:
        shown = ", ".join(strange[:3])
        more = f" (and {len(strange) - 3} more)" if len(strange) > 3 else ""
        are = "is" if len(strange) == 1 else "are"
        raise DataError(f"{path}, {shown}{more} {are} none of the {len(known)} images to choose from")
    if not chosen:
        raise DataError(f"{path} lists no image; write one file name a line")
    return np.sort(np.fromiter(chosen, dtype=np.int64))


def _shuffled(names: Sequence[str], numbers: Numbers, salt: str) -> Numbers:
    return _by_digest(names, numbers, lambda name: hashlib.sha256(f"{salt}/{name}".encode()).digest())


def _by_digest(names: Sequence[str], numbers: Numbers, digest: Callable[[str], bytes]) -> Numbers:
    ordered = sorted(np.asarray(numbers).tolist(), key=lambda number: digest(names[number]))
    return np.array(ordered, dtype=np.int64)


def _parted(ordered: Numbers, count: int, what: str) -> tuple[Numbers, Numbers]:
    """All but the first `count`, and those."""
    if count > len(ordered):
        raise DataError(f"{what}: {count} images are to be held out, but there are only {len(ordered)} to choose from")
    return np.sort(ordered[count:]), np.sort(ordered[:count])


def _turns(labels: Numbers) -> Numbers:
    """How many of its class stand before each."""
    by_class = np.argsort(labels, kind="stable")
    _, starts, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    turns = np.empty(len(labels), dtype=np.int64)
    turns[by_class] = np.arange(len(labels)) - np.repeat(starts, sizes)
    return turns
