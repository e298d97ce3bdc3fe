"""FFCV's .beton format, read with numpy: enough for files of raw images of one size, a label and an index.

A .beton is a header, one descriptor a field, one metadata row a sample, pages of pixels, and a table of where
each sample's pixels lie. Every file is checked here before anyone reads it, FFCV included: FFCV itself reads
a truncated file as pixels from somewhere else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.errors import DataError

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]  # a batch: pixels, label, index

FORMAT = 2
FIELDS = (("image", 2), ("label", 1), ("index", 1))  # names and FFCV's type ids, in the order we write them
RAW = 1

_HEADER = np.dtype(
    [("version", "<u2"), ("fields", "<u2"), ("page", "<u4"), ("samples", "<u8"), ("table", "<u8")], align=True
)
_FIELD = np.dtype([("type", "u1"), ("name", "S16"), ("arguments", "u1", 1024)], align=True)
_IMAGE = np.dtype([("mode", "u1"), ("width", "<u2"), ("height", "<u2"), ("start", "<u8")])
_SAMPLE = np.dtype([("image", _IMAGE), ("label", "<i8"), ("index", "<i8")], align=True)
_PLACE = np.dtype([("sample", "<u8"), ("start", "<u8"), ("size", "<u8")])


class Beton:
    """One .beton file, checked on opening. Raises DataError where the file is not what we write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._bytes = np.memmap(path, np.uint8, mode="r")
        except (OSError, ValueError) as error:  # ValueError: an empty file
            raise DataError(f"{path} cannot be read ({error}); {self._remedy()}") from error
        header = self._read(_HEADER, 0, 1)[0]
        if header["version"] != FORMAT or header["fields"] != len(FIELDS) or not header["samples"]:
            raise self._broken("its header is not that of our .beton files")
        fields = self._read(_FIELD, _HEADER.itemsize, len(FIELDS))
        if [(field["name"].decode(errors="replace"), int(field["type"])) for field in fields] != list(FIELDS):
            raise self._broken("its fields are not image, label and index")
        samples = self._read(_SAMPLE, _HEADER.itemsize + fields.nbytes, int(header["samples"]))
        self.labels = samples["label"].copy()
        self.indices = samples["index"].copy()
        self.height, self.width = int(samples["image"]["height"][0]), int(samples["image"]["width"][0])
        self._starts = samples["image"]["start"].astype(np.int64)
        self._check(samples["image"], int(header["table"]))

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, order: np.ndarray) -> NDArray[np.uint8]:
        """The images at these positions, NHWC, in memory of their own."""
        size = self.height * self.width * 3
        out = np.empty((len(order), size), np.uint8)
        for row, start in zip(out, self._starts[order], strict=True):
            row[:] = self._bytes[start : start + size]
        return out.reshape(len(order), self.height, self.width, 3)

    def _read(self, dtype: np.dtype, offset: int, count: int) -> NDArray:
        end = offset + count * dtype.itemsize
        if end > len(self._bytes):
            raise self._broken(f"it ends after {len(self._bytes)} bytes")
        return self._bytes[offset:end].view(dtype)

    def _check(self, images: NDArray, table: int) -> None:
        size = self.height * self.width * 3
        if (images["mode"] != RAW).any():
            raise self._broken("it holds compressed images, and only raw ones can be read")
        if (images["height"] != self.height).any() or (images["width"] != self.width).any():
            raise self._broken("its images differ in size")
        if table + len(self) * _PLACE.itemsize != len(self._bytes):
            raise self._broken("its table of images is missing or incomplete")
        places = self._read(_PLACE, table, len(self))
        if (places["size"] != size).any() or (np.sort(places["start"]) != np.sort(self._starts)).any():
            raise self._broken("its table of images disagrees with its samples")
        if int(self._starts.min()) < 0 or int(self._starts.max()) + size > table:
            raise self._broken("its pixels lie outside the file")

    def _broken(self, why: str) -> DataError:
        return DataError(f"{self.path} is broken: {why}; {self._remedy()}")

    def _remedy(self) -> str:
        return f"run `harness prepare {self.path.parent.name}`"  # a dataset's folder has its name
