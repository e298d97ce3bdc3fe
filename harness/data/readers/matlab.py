"""MATLAB's files before version 7.3, from elsewhere: how much they hold is known before it is read."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from harness.config.bounded import read_bounded

LARGEST = 32_000_000  # bytes of a file; lists and masks take up to two million
UNPACKED = 256_000_000
_HEADER, _TAG = 128, 8  # bytes
_COMPRESSED = 15  # the kind of an element that holds another one, compressed


def read_matlab(path: Path, variable: str) -> Any:
    """The value of a variable; KeyError where the file has none of that name."""
    from scipy.io import loadmat  # noqa: PLC0415 - slow to import, and few readers need it

    check_unpacked(read_bounded(path, LARGEST))
    return loadmat(path, squeeze_me=True, variable_names=[variable])[variable]


def check_unpacked(content: bytes) -> None:
    """Raise ValueError where compressed elements unpack to more than UNPACKED bytes together."""
    place, left = _HEADER, UNPACKED
    while place + _TAG <= len(content):
        order = "big" if content[126:128] == b"MI" else "little"
        kind = int.from_bytes(content[place : place + 4], order)  # type: ignore[arg-type]  # one of the two
        size = int.from_bytes(content[place + 4 : place + _TAG], order)  # type: ignore[arg-type]  # likewise
        place += _TAG
        if kind == _COMPRESSED:
            left -= len(zlib.decompressobj().decompress(content[place : place + size], left + 1))
            if left < 0:
                raise ValueError(f"it unpacks to more than {UNPACKED / 1e6:.0f} MB, which no such file needs")
        place += size
