"""What the readers of folders and lists share: reading an owner's files, and checks that say which file is wrong."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.config.datasets import Facts
from harness.data.errors import DataError
from harness.data.readers.matlab import read_matlab
from harness.data.source import SPLITS, Source

Numbers = NDArray[np.int64]
FEW = 5  # names in a message


class Listing(NamedTuple):
    """Images by number: names relative to the root, classes, and the numbers of each of the owner's splits."""

    names: list[str]
    labels: Numbers
    splits: dict[str, Numbers]


def joined(parts: Mapping[str, Sequence[tuple[str, int]]]) -> Listing:
    """The owner's splits, each a list of names and classes, numbered one after the other."""
    rows = [row for part in parts.values() for row in part]
    ends = np.cumsum([len(part) for part in parts.values()])
    splits = {split: np.arange(end - len(part), end) for (split, part), end in zip(parts.items(), ends, strict=True)}
    return Listing([name for name, _ in rows], np.array([label for _, label in rows], dtype=np.int64), splits)


def home(source: Path, folder: str) -> Path:
    """`source`/`folder` where there is one, or `source`: some sets come without a folder around them."""
    return source / folder if (source / folder).is_dir() else source


def read_bytes(root: Path, names: Sequence[str], number: int) -> bytes:
    """The file of an image, as it is."""
    try:
        return (root / names[number]).read_bytes()
    except OSError as error:
        raise DataError(f"image {names[number]} in {root} cannot be read ({error})") from error


@dataclass(frozen=True)
class Folder:
    """An unpacked dataset. Whatever in it is not as the owner made it is a DataError with the file and the remedy."""

    root: Path
    facts: Facts
    where: str  # it can be had

    def wrong(self, what: str) -> DataError:
        """The error that says `what` is wrong, and where to get the set again."""
        return DataError(f"{what}; get the set again from {self.where}")

    def lines(self, file: str) -> list[tuple[int, str]]:
        """The lines of a text file that are not empty, each with its number from 1."""
        path = self.root / file
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise self.wrong(f"{path} is missing") from error
        except (OSError, UnicodeDecodeError) as error:
            raise self.wrong(f"{path} cannot be read ({error})") from error
        return [(place, line.strip()) for place, line in enumerate(text.splitlines(), start=1) if line.strip()]

    def class_list(self, file: str) -> tuple[str, ...]:
        """The classes, one a line, as many as the facts say."""
        return self._counted([line for _, line in self.lines(file)], f"{self.root / file} lists", "classes")

    def class_folders(self, folder: str = "") -> tuple[str, ...]:
        """The names of the folders in `folder`, sorted, as many as the facts say there are classes."""
        path = self.root / folder
        if not path.is_dir():
            raise self.wrong(f"the folder {path} is missing")
        found = sorted(each.name for each in os.scandir(path) if each.is_dir() and not each.name.startswith("."))
        return self._counted(found, f"{path} has", "class folders")

    def listed(
        self, file: str, classes: Sequence[str], parse: Callable[[str], tuple[str, str]], header: int = 0
    ) -> list[tuple[str, int]]:
        """The images a file lists, one a line after the header's lines: `parse` takes a line to the names of the
        image and of its class.
        """
        numbers = {name: number for number, name in enumerate(classes)}
        rows = []
        for place, line in self.lines(file)[header:]:
            try:
                name, label = parse(line)
            except ValueError as error:
                raise self.wrong(f"{self.root / file}, line {place}: {line!r} is not an image and its class") from error
            if label not in numbers:
                raise self.wrong(f"{self.root / file}, line {place}: {label!r} is none of the {len(numbers)} classes")
            rows.append((name, numbers[label]))
        return rows

    def class_numbers(self, file: str, labels: Iterable[int], first: int = 0) -> Numbers:
        """The classes of a file's rows, counted from 0; the file counts from `first`."""
        numbers = np.fromiter(labels, dtype=np.int64) - first
        strange = np.flatnonzero((numbers < 0) | (numbers >= self.facts.classes))
        if strange.size:
            label = numbers[strange[0]] + first
            last = self.facts.classes - 1 + first
            raise self.wrong(f"{self.root / file}, row {strange[0]}: label {label} is not between {first} and {last}")
        return numbers

    def matlab(self, file: str, variable: str) -> NDArray[Any]:
        """The values of one variable of a MATLAB file, as an array of one axis."""
        path = self.root / file
        if not path.is_file():
            raise self.wrong(f"{path} is missing")
        try:
            return np.atleast_1d(read_matlab(path, variable))
        except KeyError as error:
            raise self.wrong(f"{path} has no variable {variable}") from error
        except Exception as error:  # a damaged file raises whatever its bytes lead to
            raise self.wrong(f"{path} cannot be read ({type(error).__name__}: {error})") from error

    def source(self, listing: Listing, classes: tuple[str, ...], splits: Mapping[str, Numbers]) -> Source:
        """The dataset with these splits, after a look whether every image is there and every split has its size."""
        names, labels, _ = listing
        self._check_names(names)
        self._counted(classes, f"{self.root} has", "classes")
        self.check_splits(splits)
        return Source(names, labels, classes, splits, partial(read_bytes, self.root, names))

    def check_splits(self, splits: Mapping[str, Numbers]) -> None:
        """Raise where a split has another size than the facts say."""
        for split in SPLITS:
            found, wanted = len(splits[split]), self.facts.images(split)
            if found != wanted:
                raise self.wrong(f"the {split} split in {self.root} has {found} images, not {wanted}")

    def _check_names(self, names: Sequence[str]) -> None:
        out = [name for name in names if name.startswith("/") or ".." in name.split("/")]
        if out:
            raise self.wrong(f"{len(out)} images lead out of {self.root}: {_few(out)}")
        folders: dict[str, list[str]] = defaultdict(list)
        for name in names:
            folders[name.rpartition("/")[0]].append(name)
        absent = []
        for folder, held in folders.items():  # a listing of each folder: a million single questions are slow
            path = self.root / folder
            there = set(os.listdir(path)) if path.is_dir() else set()
            absent += [name for name in held if name.rpartition("/")[2] not in there]
        if absent:
            raise self.wrong(f"{len(absent)} of {len(names)} images are missing in {self.root}: {_few(absent)}")
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise self.wrong(f"{len(twice)} images in {self.root} are listed more than once: {_few(twice)}")

    def _counted(self, found: Sequence[str], start: str, what: str) -> tuple[str, ...]:
        if len(found) != self.facts.classes:
            raise self.wrong(f"{start} {len(found)} {what}, not {self.facts.classes}: {_few(found)}")
        return tuple(found)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:FEW]) + (", ..." if len(names) > FEW else "")
