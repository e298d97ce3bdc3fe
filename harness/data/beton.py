"""Our .beton files: laid out so that FFCV opens them, described and checked here with numpy alone.

A header, one descriptor a field, one row of metadata a sample, the images and targets, and a table of where each
of those lies. The first field has the image: a JPEG file as its owner made it (`jpeg`), or pixels (`rgb`). Every
file is checked before anyone reads it, FFCV included: FFCV reads a truncated file as bytes from somewhere else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.errors import DataError

Bytes = NDArray[np.uint8]

FORMAT = 2  # FFCV's, since its version 1
ENCODINGS = ("jpeg", "rgb")  # the first field's name tells which
BYTES, INTEGER = 3, 1  # FFCV's numbers for kinds of fields
FIELDS = (("target", BYTES), ("label", INTEGER), ("index", INTEGER), ("height", INTEGER), ("width", INTEGER))
LARGEST_SIDE = 65_535  # JPEG's own limit

HEADER = np.dtype(
    [("version", "<u2"), ("fields", "<u2"), ("page", "<u4"), ("samples", "<u8"), ("table", "<u8")], align=True
)
FIELD = np.dtype([("type", "u1"), ("name", "S16"), ("arguments", "u1", 1024)], align=True)
REGION = np.dtype([("start", "<u8"), ("size", "<u8")])
SAMPLE = np.dtype([("image", REGION), ("target", REGION), *((name, "<i8") for name, kind in FIELDS if kind == INTEGER)])
PLACE = np.dtype([("sample", "<u8"), ("start", "<u8"), ("size", "<u8")])

SAMPLES_AT = HEADER.itemsize + (1 + len(FIELDS)) * FIELD.itemsize  # where the metadata begins


class Beton:
    """One .beton file, checked on opening. Raises DataError where the file is not what we write.

    Arrays have one entry a sample, at its position in the file: the source's number (`indices`), the class, the
    image's size in pixels, and the place and number of its bytes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.bytes: Bytes = np.memmap(path, np.uint8, mode="r")
        except (OSError, ValueError) as error:  # ValueError: an empty file
            raise DataError(f"{path} cannot be read ({error}); {self._remedy()}") from error
        header = self._read(HEADER, 0, 1)[0]
        self.encoding = self._encoding(header)
        samples = self._read(SAMPLE, SAMPLES_AT, int(header["samples"]))
        self.labels, self.indices = samples["label"].astype(np.int64), samples["index"].astype(np.int64)
        self.heights, self.widths = samples["height"].astype(np.int64), samples["width"].astype(np.int64)
        self.starts, self.sizes = _placed(samples["image"])
        self._target_starts, self._target_sizes = _placed(samples["target"])
        self._check(int(header["table"]))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def targets(self) -> bool:
        """Whether samples have more than a label."""
        return bool(self._target_sizes.any())

    @property
    def uniform(self) -> bool:
        """Whether all images have one size."""
        return bool((self.heights == self.heights[0]).all() and (self.widths == self.widths[0]).all())

    def image(self, position: int) -> Bytes:
        """The bytes of an image: a JPEG file, or its pixels row by row. A view of the file."""
        return self.bytes[self.starts[position] : self.starts[position] + self.sizes[position]]

    def target(self, position: int) -> bytes:
        """What a sample has beside its label, in the form of its record; empty where it has no more."""
        start = self._target_starts[position]
        return self.bytes[start : start + self._target_sizes[position]].tobytes()

    def pixels(self, order: np.ndarray) -> Bytes:
        """The raw images at these positions, NHWC, in memory of their own; they must have one size."""
        if self.encoding != "rgb" or not self.uniform:
            raise DataError(f"{self.path} does not hold raw images of one size; read it with a loader")
        out = np.empty((len(order), int(self.heights[0]), int(self.widths[0]), 3), np.uint8)
        for one, position in zip(out, order, strict=True):
            one.reshape(-1)[:] = self.image(position)
        return out

    def _read(self, dtype: np.dtype, offset: int, count: int) -> NDArray:
        end = offset + count * dtype.itemsize
        if end > len(self.bytes):
            raise self._broken(f"it ends after {len(self.bytes)} bytes")
        return self.bytes[offset:end].view(dtype)

    def _encoding(self, header: np.void) -> str:
        """Read the fields' names and kinds, which say whether this is one of our files."""
        if header["version"] != FORMAT:
            raise self._other(f"its format is number {header['version']}, not {FORMAT}")
        found = self._read(FIELD, HEADER.itemsize, min(int(header["fields"]), 16))
        fields = [(field["name"].decode(errors="replace"), int(field["type"])) for field in found]
        if fields[1:] != list(FIELDS) or fields[0][1] != BYTES or fields[0][0] not in ENCODINGS:
            raise self._other(f"its fields are {', '.join(name for name, _ in fields) or 'none'}")
        if not header["samples"]:
            raise self._broken("it holds no sample")
        return fields[0][0]

    def _check(self, table: int) -> None:
        starts = np.concatenate([self.starts, self._target_starts])
        sizes = np.concatenate([self.sizes, self._target_sizes])
        places = places_of(starts, sizes)
        if not 0 <= table <= len(self.bytes) or table + places.nbytes != len(self.bytes):
            raise self._broken("its table of places is missing or incomplete")
        if (self._read(PLACE, table, len(places)) != places).any():
            raise self._broken("its table of places disagrees with its samples")
        for name, sides in (("height", self.heights), ("width", self.widths)):
            if sides.min() < 1 or sides.max() > LARGEST_SIDE:
                raise self._broken(f"an image has the {name} {sides.min() if sides.min() < 1 else sides.max()}")
        if self.encoding == "rgb" and (self.sizes != self.heights * self.widths * 3).any():
            raise self._broken("an image does not have the bytes of its height and width")
        starts, sizes = starts[sizes != 0], sizes[sizes != 0]
        order = np.argsort(starts)
        ends = np.concatenate([[SAMPLES_AT + len(self) * SAMPLE.itemsize], (starts + sizes)[order]])
        if self.sizes.min() < 1 or sizes.min() < 0 or (ends[:-1] > starts[order]).any() or ends[-1] > table:
            raise self._broken("its images overlap or lie outside the file")

    def _other(self, why: str) -> DataError:
        return DataError(f"{self.path} is of another version of the harness, or no dataset ({why}); {self._remedy()}")

    def _broken(self, why: str) -> DataError:
        return DataError(f"{self.path} is broken: {why}; {self._remedy()}")

    def _remedy(self) -> str:
        return f"run `harness prepare {self.path.parent.name}`"  # a dataset's folder has its name


def places_of(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray:
    """FFCV's table for regions given as all images and then all targets, sample by sample.

    FFCV looks a region's size up by where it starts. Empty targets, which start at 0, share one entry.
    """
    samples = len(starts) // 2
    kept = np.arange(samples)
    held = samples + np.flatnonzero(sizes[samples:])
    empty = samples + np.flatnonzero(sizes[samples:] == 0)[:1]
    rows = np.concatenate([kept, held, empty])
    places = np.empty(len(rows), PLACE)
    places["sample"], places["start"], places["size"] = rows % samples, starts[rows], sizes[rows]
    return places


def _placed(regions: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return regions["start"].astype(np.int64), regions["size"].astype(np.int64)
