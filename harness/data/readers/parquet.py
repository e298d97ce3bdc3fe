"""Images in the rows of parquet files, the form in which Hugging Face distributes datasets."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.data.readers.layout import Folder, Numbers
from harness.data.source import SPLITS

IMAGES, LABELS = ("image", "img"), ("label", "fine_label")  # names that the columns have
KEPT = 4  # row groups in memory; one of ImageNet takes about 11 MB


class Shards:
    """The rows of all files, numbered one after the other: the image's own path, its class, and its bytes.

    Paths and classes are read at once. Bytes come by whole row groups, the smallest piece that can be read, when one
    of their rows is asked for; the last few groups are kept, so reading in ascending order reads each once.
    """

    def __init__(self, folder: Folder, parts: Mapping[str, str]) -> None:
        """`parts` has a pattern of file names for each of the owner's splits."""
        self._folder = folder
        self._groups: list[tuple[pq.FileMetaData, Path, int]] = []
        self._starts = [0]  # the first row of each group, and the end
        self._held: OrderedDict[int, Future[pa.ChunkedArray]] = OrderedDict()
        self._lock = threading.Lock()
        self.paths: list[str] = []
        self.splits: dict[str, Numbers] = {}
        labels = []
        for split, pattern in parts.items():
            start = len(self.paths)
            files = sorted(folder.root.glob(pattern))
            if not files:
                raise folder.wrong(f"{folder.root} holds no file {pattern}")
            labels += [self._index(file) for file in files]
            self.splits[split] = np.arange(start, len(self.paths))
        self.labels = np.concatenate(labels)

    def bytes(self, row: int) -> bytes:
        """The image in a row, as it is."""
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        content = self._group(group)[row - self._starts[group]].as_py()["bytes"]
        if content is None:
            raise self._folder.wrong(f"{self.place(row)}: there are no bytes of an image")
        return bytes(content)

    def place(self, row: int) -> str:
        """Where a row is, in words."""
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        file = self._groups[group][1]
        first = next(number for number, each in enumerate(self._groups) if each[1] == file)
        return f"{file}, row {row - self._starts[first]}"

    def _index(self, file: Path) -> Numbers:
        """Take in a file's row groups and the paths of its images; its labels."""
        try:
            opened = pq.ParquetFile(file)
            image, label = (_column(opened.schema_arrow.names, choices) for choices in (IMAGES, LABELS))
            if image is None or label is None:
                raise self._folder.wrong(f"{file} has the columns {opened.schema_arrow.names}, but no image and label")
            most = sum(self._folder.facts.images(split) for split in SPLITS)
            if opened.metadata.num_rows > most:  # a few bytes can stand for billions of rows
                raise self._folder.wrong(f"{file} has {opened.metadata.num_rows} rows, the whole set {most} images")
            table = opened.read(columns=[f"{image}.path", label])
        except (pa.ArrowException, OSError) as error:
            raise self._folder.wrong(f"{file} is damaged or incomplete ({error})") from error
        for group in range(opened.num_row_groups):
            self._groups.append((opened.metadata, file, group))
            self._starts.append(self._starts[-1] + opened.metadata.row_group(group).num_rows)
        self.paths += [(each or {}).get("path") or "" for each in table[image].to_pylist()]
        labels = table[label].fill_null(-1).to_numpy()
        return self._folder.class_numbers(file.name, labels)

    def _group(self, number: int) -> pa.ChunkedArray:
        """The images of a row group. Whoever asks first reads it; others who ask meanwhile wait for that."""
        with self._lock:
            held = self._held.pop(number, None)
            first = held is None
            held = self._held[number] = held or Future()
            while len(self._held) > KEPT:
                self._held.popitem(last=False)
        if first:
            try:
                held.set_result(self._read(number))
            except Exception as error:  # every waiting thread gets it
                held.set_exception(error)
        return held.result()

    def _read(self, number: int) -> pa.ChunkedArray:
        metadata, file, group = self._groups[number]
        try:
            opened = pq.ParquetFile(file, metadata=metadata)
            image = _column(opened.schema_arrow.names, IMAGES)
            return opened.read_row_group(group, columns=[f"{image}.bytes"], use_threads=False)[image]
        except (pa.ArrowException, OSError) as error:
            raise self._folder.wrong(f"{file} is damaged or incomplete ({error})") from error


def check_counts(folder: Folder, classes: int, splits: Mapping[str, Numbers]) -> None:
    """Raise where a dataset without image files, which `Folder.source` needs, has other counts than its facts."""
    if classes != folder.facts.classes:
        raise folder.wrong(f"{folder.root} has {classes} classes, not {folder.facts.classes}")
    folder.check_splits(splits)


def _column(names: Sequence[str], choices: Sequence[str]) -> str | None:
    return next((name for name in choices if name in names), None)
