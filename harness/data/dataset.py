"""A prepared dataset as runs open it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.config.datasets import Facts
from harness.data import manifest
from harness.data.beton import Beton
from harness.data.catalogue import facts_of, remedy
from harness.data.errors import DataError
from harness.data.manifest import BETONS, Manifest, Numbers

JOINED = {"train+valid": ("train", "valid")}


def as_it_is(file: Path) -> Path:
    """There is no copy of a file."""
    return file


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset, checked on opening. A split is train, valid, train+valid, test, or a list of `lists/`.

    nearest: where to read a file of the folder from; asked when the file is wanted.
    """

    folder: Path
    manifest: Manifest
    facts: Facts
    nearest: Callable[[Path], Path] = as_it_is

    @property
    def classes(self) -> int:
        """How many classes the labels count."""
        return len(self.manifest.classes)

    @property
    def mean(self) -> tuple[float, float, float]:
        """The mean colour that normalisation subtracts."""
        return self.facts.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """The deviation of each channel, by which normalisation divides."""
        return self.facts.std

    def file(self, split: str) -> str:
        """The name of the file that holds a split."""
        return BETONS.get(self._parts(split)[0], BETONS["train"])

    def beton(self, split: str) -> Path:
        """The file that holds a split, or a copy of it; all but the test split's images are in one."""
        return self.nearest(self.folder / self.file(split))

    def numbers(self, split: str) -> Numbers:
        """The source's numbers of a split's images, ascending."""
        lists = [manifest.load_list(self.folder, self.manifest, part) for part in self._parts(split)]
        return np.sort(np.concatenate(lists))

    def indices(self, split: str) -> Numbers:
        """Where the images of a split lie in its file, ascending."""
        numbers = self.numbers(split)
        stored = self.numbers("test" if self.file(split) == BETONS["test"] else "train+valid")
        return np.searchsorted(stored, numbers).astype(np.int64)  # a file holds its images by ascending number

    def _parts(self, split: str) -> tuple[str, ...]:
        parts = JOINED.get(split, (split,))
        if not all(part in self.manifest.lists for part in parts):
            known = ", ".join([*JOINED, *self.manifest.lists])
            raise DataError(f"{self.folder} has no list of images {split!r}; there are {known}")
        return parts


def open_dataset(name: str, directory: Path) -> Dataset:
    """The prepared dataset `name`, or a DataError that says what is wrong with it and how to prepare it."""
    facts, folder = facts_of(name), directory / name
    found = manifest.load(folder, name, facts)
    for file, stated in found.files.items():
        size = (folder / file).stat().st_size if (folder / file).exists() else None
        if size != stated["bytes"]:
            wrong = "is missing" if size is None else f"has {size} bytes, not {stated['bytes']}"
            raise DataError(f"{folder / file} {wrong}; {remedy(name)}")
    for file in sorted(set(BETONS.values())):
        held, wanted = len(Beton(folder / file)), sum(found.counts[split] for split in BETONS if BETONS[split] == file)
        if held != wanted:
            raise DataError(f"{folder / file} holds {held} images, not {wanted}; {remedy(name)}")
    return Dataset(folder, found, facts)
