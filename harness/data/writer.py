"""Writing .beton files, sample by sample and in order, with nothing but numpy."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.beton import (
    BYTES,
    ENCODINGS,
    FIELD,
    FIELDS,
    FORMAT,
    HEADER,
    REGION,
    SAMPLE,
    SAMPLES_AT,
    Beton,
    places_of,
)
from harness.data.errors import DataError

PAGE = 1 << 25  # FFCV reads pages; a sample lies in one


@dataclass(frozen=True)
class Sample:
    """One sample as it is stored: `image` has a JPEG file or raw pixels, `index` is the source's number."""

    image: bytes
    target: bytes
    label: int
    index: int
    height: int
    width: int


def write(path: Path, encoding: str, samples: Iterable[Sample], count: int) -> None:
    """Write `count` samples to `path` as they come, and check what was written; they count by ascending index.

    Fewer may come than announced: the metadata keeps room for `count`, and the data begin after that room.
    """
    if encoding not in ENCODINGS or count < 1:
        raise ValueError(f"{path}: a .beton needs samples in one of {ENCODINGS}, got {count} in {encoding!r}")
    metadata = np.zeros(count, SAMPLE)
    held = 0
    with path.open("wb") as out:
        out.write(bytes(SAMPLES_AT + metadata.nbytes))
        for sample in samples:
            if held == count:
                raise ValueError(f"{path}: more samples than the {count} announced")
            target = _padding(path, sample, out.tell())
            out.write(bytes(target))
            metadata[held] = _row(sample, out.tell())
            out.write(sample.image)
            out.write(sample.target)
            held += 1
        if not held:
            raise DataError(f"{path}: there is no sample to write")
        table = out.tell()
        written = np.sort(metadata[:held], order="index")
        regions = [np.concatenate([written[name][part] for name in ("image", "target")]) for part in REGION.names or ()]
        out.write(places_of(*(each.astype(np.int64) for each in regions)).tobytes())
        out.seek(0)
        out.write(_header(encoding, held, table))
        out.write(written.tobytes())
        out.flush()
        os.fsync(out.fileno())
    if len(Beton(path)) != held:
        raise DataError(f"{path} holds {len(Beton(path))} images after writing {held}")


def _padding(path: Path, sample: Sample, place: int) -> int:
    """How many bytes to skip so that the sample does not straddle two pages."""
    size = len(sample.image) + len(sample.target)
    if size > PAGE:
        raise DataError(f"{path}: image {sample.index} has {size} bytes; a sample may have {PAGE}, store it smaller")
    left = PAGE - place % PAGE
    return left if size > left else 0


def _row(sample: Sample, place: int) -> np.ndarray:
    """The metadata of a sample whose image goes to `place`, and its target right after."""
    after = place + len(sample.image) if sample.target else 0
    image, target = (place, len(sample.image)), (after, len(sample.target))
    return np.array((image, target, sample.label, sample.index, sample.height, sample.width), SAMPLE)


def _header(encoding: str, samples: int, table: int) -> bytes:
    header = np.zeros(1, HEADER)
    header[0] = (FORMAT, 1 + len(FIELDS), PAGE, samples, table)
    fields = np.zeros(1 + len(FIELDS), FIELD)
    for field, (name, kind) in zip(fields, ((encoding, BYTES), *FIELDS), strict=True):
        field["name"], field["type"] = name.encode(), kind
    return header.tobytes() + fields.tobytes()
