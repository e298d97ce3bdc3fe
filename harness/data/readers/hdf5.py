"""Arrays of HDF5 files from elsewhere: those that lie in the file itself, and are no larger than they may be."""

from __future__ import annotations

from typing import Any

FRAME_BYTES = 64_000_000  # one frame, thirty times as large as the largest here


def array_of(file: Any, field: str) -> Any:
    """The dataset of this name in an open file; KeyError where there is none.

    A file may say that an array is part of another one, which nobody meant to be read: ValueError.
    """
    import h5py  # noqa: PLC0415 - slow to import, and preparing alone needs it

    link = file.get(field, getlink=True)
    if link is None:
        raise KeyError(f"it holds no {field}")
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{field} is a link to somewhere else")
    found = file[field]
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise ValueError(f"{field} is no array that lies in the file")
    return found


def check_size(array: Any, count: int = 1) -> None:
    """Raise ValueError where an array is larger than `count` frames may be: few bytes can claim any size."""
    if array.nbytes > count * FRAME_BYTES:
        raise ValueError(f"an array claims {array.nbytes / 1e6:.0f} MB, of which no frame has as many")
